import { cwd } from 'node:process'
import { call, type ScanOptions, type Taker } from './call'
import { native, nativeSync, ScanPipelineError } from './errors'
import { addon } from './native'
import { camel, settingsText } from './names'
import { Report, type EngineInfo } from './report'
import type { Source } from './source'
import { Upload } from './upload'
import type { NativeScanner, NativeUpload } from '../native'

/** A number of bytes, or a text such as `25MB`; units are powers of 1024. */
export type Size = number | string
/** A number of milliseconds, or a text such as `30s` or `5m`. */
export type Time = number | string

/** How much one scan may cost. What is beyond a limit is unscannable. */
export interface LimitSettings {
  /** Bytes of one layer. Default 100 MiB. */
  maxFileSize?: Size
  /** Bytes of all layers together. Default 400 MiB. */
  maxScanSize?: Size
  /** Levels of nesting. Default 17. */
  maxRecursion?: number
  /** Layers. Default 10,000. */
  maxFiles?: number
  /** Time for one scan once it has started. Default 120 s. */
  maxScanTime?: Time
}

/** A pattern of your own to look for. */
export interface PatternSettings {
  name: string
  pattern: string
  keywords?: string[]
  prefix?: string
  confidence?: number
  validator?: 'luhn'
  minEntropy?: number
}

/** How contents are taken in before they are scanned. */
export interface SpoolSettings {
  /** Most bytes of one content; larger ones are refused (`too_large`). Default: `limits.maxFileSize`. */
  maxSize?: Size
  /** Memory of all contents and scans together. Default 512 MiB. */
  memory?: Size
  /** Contents up to this size stay in memory, larger ones go to a file without a name. Default 1 MiB. */
  memoryThreshold?: Size
  /** Longest time in which nothing comes. Default 30 s. */
  stallTimeout?: Time
  /** Longest time for one content in all. Default 1 h. */
  readTimeout?: Time
  /**
   * Longest wait of a scan for `memory` while nobody gives any back; then it is `busy`, which may be tried again. Uploads
   * that are kept without {@link Upload.dispose} hold their part. Default 30 s.
   */
  roomTimeout?: Time
}

/** The words of the tables `[engine]` and `[engine.clamav]` of the configuration file, in camelCase. */
export interface ScannerSettings {
  /** Folders of signature databases, or databases. Default (or `auto`): where freshclam puts them. */
  definitions?: string | string[]
  limits?: LimitSettings
  /** Scans at once. Default: the number of cores. */
  threads?: number
  /** Where libclamav unpacks to, and where large contents wait. Default: the system's directory. */
  tempDir?: string
  alertMacros?: boolean
  alertBroken?: boolean
  /** Sensitive data to look for in the same pass: `all`, `first_tier`, or names of detectors. */
  detect?: string | string[]
  minConfidence?: number
  maxFindings?: number
  fingerprintKey?: string
  patterns?: PatternSettings[]
  spool?: SpoolSettings
}

/** Whether this machine can scan. */
export interface Health {
  readonly ok: boolean
  readonly engine: EngineInfo
  /** Milliseconds since the newest database was built; `null` where the databases do not say. */
  readonly definitionsAgeMs: number | null
  readonly tempDir: { readonly path: string; readonly writable: boolean; readonly freeBytes: number | null }
  readonly memory: { readonly residentBytes: number | null; readonly budgetBytes: number; readonly budgetFreeBytes: number }
  /** Whether members of RAR archives are scanned; `null` where that could not be found out. */
  readonly rar: boolean | null
  readonly problems: readonly string[]
}

const ENGINE = ['detect', 'minConfidence', 'maxFindings', 'fingerprintKey', 'patterns'] as const
const CLAMAV = ['definitions', 'limits', 'threads', 'tempDir', 'alertMacros', 'alertBroken'] as const

/** The tables of a configuration that a scanner's settings are, as JSON. */
export function tables(from: ScannerSettings): string {
  if (from === null || typeof from !== 'object') throw new ScanPipelineError('config', 'the settings of a scanner are an object')
  const known: readonly string[] = [...ENGINE, ...CLAMAV, 'spool']
  const stranger = Object.keys(from).find((key) => !known.includes(key))
  if (stranger !== undefined) {
    throw new ScanPipelineError('config', `there is no such setting: ${stranger}; there are ${known.join(', ')}`)
  }
  const pick = (keys: readonly (keyof ScannerSettings)[]) =>
    Object.fromEntries(keys.filter((key) => from[key] !== undefined).map((key) => [key, from[key]]))
  const clamav = pick(CLAMAV)
  if (clamav['definitions'] === 'auto') delete clamav['definitions']
  return settingsText({ engine: { ...pick(ENGINE), clamav }, spool: from.spool ?? {} })
}

/**
 * Scans. An engine is loaded once for all scanners of a process that ask for the same one, worker threads included: their
 * `spool` may differ.
 *
 * ```ts
 * await using scanner = await Scanner.open({ definitions: '/var/lib/clamav' })
 * const report = await scanner.scan({ path: 'upload.zip' })
 * if (report.verdict.status === 'infected') console.log(report.verdict.threats)
 * ```
 */
export class Scanner implements AsyncDisposable {
  readonly #native: NativeScanner

  private constructor(scanner: NativeScanner) {
    this.#native = scanner
  }

  /**
   * Loads the definitions, or finds the engine that the process has loaded with the same settings. Official definitions
   * take seconds and over a gigabyte of memory.
   * @throws {ScanPipelineError} `config` for impossible settings, and for definitions that are missing or malformed
   */
  static async open(from: ScannerSettings = {}): Promise<Scanner> {
    const text = tables(from)
    return new Scanner(await native(() => addon.openScanner(text, Buffer.from(cwd()))))
  }

  /**
   * A scanner for the tests of an application, which needs no definitions: contents with one of these texts in them are
   * infected or unscannable, and all others clean. It looks for no malware and unpacks nothing.
   */
  static async double(texts: { infected?: string[]; unscannable?: string[]; spool?: SpoolSettings } = {}): Promise<Scanner> {
    if (texts === null || typeof texts !== 'object') throw new ScanPipelineError('config', 'the texts of a double are an object')
    const { infected = [], unscannable = [], spool = {} } = texts
    const text = settingsText({ spool, double: { infected, unscannable } })
    return new Scanner(await native(() => addon.openDouble(text, Buffer.from(cwd()))))
  }

  /**
   * Scans a source to its end.
   * @throws {ScanPipelineError} nothing is known about the content: it is larger than allowed (`too_large`), it did not
   * come (`timeout`), it broke off (`truncated`), the engine failed (`engine`)
   */
  async scan(source: Source, options: ScanOptions = {}): Promise<Report> {
    return new Report(JSON.parse((await call(this.#taker(), source, options)) as string))
  }

  /**
   * Scans a source, and keeps what was scanned: the gate of an application that takes uploads. The content is there to
   * be read or stored only when it is clean.
   */
  async scanUpload(source: Source, options: ScanOptions = {}): Promise<Upload> {
    const upload = (await call(this.#taker(), source, options, { keep: true })) as NativeUpload
    return new Upload(upload, options.name ?? '')
  }

  /** What the next scan would use. */
  get info(): EngineInfo {
    return camel(JSON.parse(nativeSync(() => this.#native.info()))) as EngineInfo
  }

  /** Whether this machine can scan, and with what. */
  async health(): Promise<Health> {
    const health = camel(JSON.parse(await native(() => this.#native.health()))) as Health
    const built = health.engine.definitionsBuilt
    return { ...health, definitionsAgeMs: built === null ? null : Date.now() - Date.parse(built) }
  }

  /**
   * Takes up newer definitions if there are any, and says whether there were. Scans go on meanwhile.
   * @throws {ScanPipelineError} they could not be loaded; the old ones go on serving
   */
  async refreshDefinitions(): Promise<boolean> {
    return native(() => this.#native.refreshDefinitions())
  }

  /** Takes nothing new, waits for the scans under way, and gives the engine up. */
  async close(): Promise<void> {
    return native(() => this.#native.close())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** @internal */
  get native(): NativeScanner {
    return this.#native
  }

  #taker(): Taker<string | NativeUpload> {
    const scanner = this.#native
    return {
      bytes: (bytes, request, ticket) => scanner.scanBytes(bytes, request, ticket),
      path: (path, request, ticket) => scanner.scanPath(path, request, ticket),
      parts: (intake, request, ticket) => scanner.scanIntake(intake, request, ticket),
    }
  }
}
