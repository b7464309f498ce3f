import { InfectedError, ScanPipelineError, UnscannableError } from './errors'
import { camel } from './names'

/** The conclusion of a scan. There is no boolean in it, on purpose: "not infected" is not "clean". */
export type Verdict =
  /** Everything was unpacked and scanned, this is proven, and no signature matched. */
  | { readonly status: 'clean' }
  /** At least one signature matched. */
  | { readonly status: 'infected'; readonly threats: readonly [Threat, ...Threat[]] }
  /** No signature matched in what could be scanned, and something could not be, or nobody can prove that it was. */
  | { readonly status: 'unscannable'; readonly reasons: readonly Reason[] }

export type Status = Verdict['status']

/** A signature that matched. */
export interface Threat {
  /** The signature's name, as the engine gives it. */
  readonly signature: string
  /** The layer that matched, such as `outer.zip/inner.docx/word/document.xml`. */
  readonly layerPath: string
}

/** What kept a layer from being scanned. A later version may add some. */
export type ReasonKind =
  | 'encrypted' | 'too_large' | 'too_deep' | 'too_many_files' | 'scan_size' | 'timed_out' | 'unsupported'
  | 'truncated_or_corrupt' | 'engine_reported' | 'unproven' | 'no_malware_scan' | (string & {})

/** Why a layer is not proven to be scanned. */
export interface Reason {
  readonly kind: ReasonKind
  /** The layer, such as `outer.zip/secret.txt`. */
  readonly layerPath: string
  /** More for a reader: a method, a size, the engine's words. Not stable. */
  readonly detail: string | null
}

/** Sensitive data in a layer, masked: what was matched can not be read from it. */
export interface Finding {
  /** What found it, such as `credit_card`. */
  readonly detector: string
  readonly maskedMatch: string
  readonly context: string
  readonly layerPath: string
  /** Where it begins within the decoded layer, in bytes. */
  readonly byteOffset: number
  /** Where it begins within the scanned bytes as they are, where that is known exactly. */
  readonly rawOffset?: number
  /** How sure the detector is, from 0 to 1. */
  readonly confidence: number
  readonly tags: readonly string[]
  /** The same for the same match wherever it is found with the same key; empty where it was not taken. */
  readonly fingerprint: string
}

/** How much one scan may cost. Content beyond a limit is never clean. */
export interface Limits {
  /** Bytes of one layer: the file itself and each file unpacked from it. */
  readonly maxFileSize: number
  /** Bytes of all layers of one scan together. */
  readonly maxScanSize: number
  readonly maxRecursion: number
  readonly maxFiles: number
  /** Milliseconds. */
  readonly maxScanTimeMs: number
}

/** How much of a content was looked at: the proof that a clean verdict needs, and what is missing from it otherwise. */
export interface Coverage {
  /** The engine accounts for everything that it looked at. Without it there is no clean verdict. */
  readonly proven: boolean
  readonly started: boolean
  /** Layers that were scanned, the file itself included. */
  readonly layers: number
  /** Bytes of these layers together. */
  readonly bytes: number
  /** Deepest level of nesting seen, 0 for a file without members. */
  readonly depth: number
  /** Members that containers announced and that were held against what was delivered. */
  readonly members: number
  /** The file was too small to hold anything (5 bytes or fewer). */
  readonly trivial: boolean
  /** Everything that is not proven to be scanned, as far as it is listed; an infected content can have gaps, too. */
  readonly gaps: readonly Reason[]
  /** How many gaps there were, listed or not. */
  readonly gapCount: number
  readonly limits: Limits
}

/** One database file. */
export interface DatabaseInfo {
  readonly name: string
  readonly version?: number
  /** RFC 3339. */
  readonly built?: string
}

/** What an engine is: its software, its definitions, its settings. */
export interface EngineInfo {
  /** `clamav`, `clamd`, or the names of a group's members joined by `+`. */
  readonly name: string
  /** The version of its software, such as `1.4.6`. */
  readonly library: string
  /** Changes exactly when the definitions change. */
  readonly generation: string
  /** A hash of every setting that a verdict may depend on. */
  readonly settings?: string
  readonly functionalityLevel: number
  readonly signatures: number
  /** The newest build time among the databases; RFC 3339. */
  readonly definitionsBuilt: string | null
  readonly databases: readonly DatabaseInfo[]
}

/** The JSON form of a report, as `scan-pipeline scan --json` has it. */
export interface ReportJson {
  verdict: { status: Status; threats: unknown[]; reasons: unknown[] }
  coverage: Record<string, unknown>
  engine: Record<string, unknown>
  findings: unknown[]
  findings_omitted: number
  sha256: string | null
  size: number | null
  file_type: string | null
  elapsed_ms: number
}

/** The same with keys in camelCase. */
type Form = Pick<Report, 'findings' | 'findingsOmitted' | 'coverage' | 'engine' | 'sha256' | 'size' | 'fileType' | 'elapsedMs'>
  & { verdict: { status: string; threats: Threat[]; reasons: Reason[] } }

/** The result of one scan. */
export class Report {
  readonly verdict: Verdict
  /** Sensitive data, where detectors looked for it; as many as are listed. */
  readonly findings: readonly Finding[]
  /** Findings beyond those, which are not listed. */
  readonly findingsOmitted: number
  /** How much of the content the conclusion rests on. */
  readonly coverage: Coverage
  readonly engine: EngineInfo
  /** The digest of the scanned bytes, in hexadecimal digits. */
  readonly sha256: string | null
  /** Bytes of the content; `null` where it was not read to its end. */
  readonly size: number | null
  /** The engine's name of the content's type, such as `CL_TYPE_PDF`. */
  readonly fileType: string | null
  /** Milliseconds from the start of the scan to its end, waiting not included. */
  readonly elapsedMs: number
  readonly #json: ReportJson

  /** A report from its JSON form. One that says neither of the three words is no report. */
  constructor(json: ReportJson) {
    const form = frozen(camel(json)) as Form
    const { status, threats, reasons } = form.verdict
    this.#json = frozen(json)
    this.verdict = Object.freeze(verdict(status, threats, reasons))
    this.findings = form.findings
    this.findingsOmitted = form.findingsOmitted
    this.coverage = Object.freeze({ ...form.coverage, gaps: reasons })
    this.engine = form.engine
    this.sha256 = form.sha256
    this.size = form.size
    this.fileType = form.fileType
    this.elapsedMs = form.elapsedMs
    Object.freeze(this)
  }

  /** What matched; empty unless the verdict is `infected`. */
  get threats(): readonly Threat[] { return this.verdict.status === 'infected' ? this.verdict.threats : [] }

  /** What is not proven to be scanned; empty where the verdict is `clean`. */
  get reasons(): readonly Reason[] { return this.coverage.gaps }

  /**
   * Returns for a clean content, and throws for any other.
   * @throws {InfectedError} a signature matched
   * @throws {UnscannableError} something could not be scanned
   */
  throwForVerdict(name?: string): void {
    switch (this.verdict.status) {
      case 'clean': return
      case 'infected': throw new InfectedError(this, name)
      default: throw new UnscannableError(this, name)
    }
  }

  /** The JSON form, as `scan-pipeline scan --json` has it. */
  toJSON(): ReportJson { return this.#json }
}

/** A value that cannot be changed, as deep as it goes. */
function frozen<T>(value: T): T {
  if (value === null || typeof value !== 'object' || Object.isFrozen(value)) return value
  for (const inner of Object.values(value)) frozen(inner)
  return Object.freeze(value)
}

function verdict(status: string, threats: Threat[], reasons: Reason[]): Verdict {
  switch (status) {
    case 'clean':
      // A clean form with reasons contradicts itself; the reasons win.
      return reasons.length === 0 ? { status } : { status: 'unscannable', reasons }
    case 'infected': return { status, threats: threats as [Threat, ...Threat[]] }
    case 'unscannable': return { status, reasons }
    default: throw new ScanPipelineError('corrupt', `a report says neither clean nor infected nor unscannable`)
  }
}
