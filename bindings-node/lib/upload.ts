import { Readable } from 'node:stream'
import { native, ScanPipelineError } from './errors'
import { Report } from './report'
import { pathBytes } from './source'
import type { NativeUpload } from '../native'

/** How much of a content is read at once. */
const PART = 256 << 10

/** The bytes that were scanned, and no others. They cannot change. */
export class Content {
  readonly size: number
  /** In hexadecimal digits. */
  readonly sha256: string | null
  readonly #native: NativeUpload

  /** @internal */
  constructor(upload: NativeUpload, report: Report) {
    this.size = upload.size
    this.sha256 = report.sha256
    this.#native = upload
  }

  /** All bytes at once. */
  async bytes(): Promise<Buffer> {
    return native(() => this.#native.read(0, this.size))
  }

  /** The bytes in parts, from the start, as often as it is asked for. */
  stream(): Readable {
    return Readable.from(this.#parts(), { objectMode: false })
  }

  /** The same as a web stream, such as the body of a `Response` or of a request to a store. */
  webStream(): ReadableStream<Uint8Array> {
    return Readable.toWeb(this.stream()) as ReadableStream<Uint8Array>
  }

  /**
   * Writes the bytes to a file that is not there yet.
   * @throws {ScanPipelineError} `exists` when there is one of that name
   */
  async saveTo(path: string | URL | Buffer): Promise<void> {
    const to = pathBytes(path)
    return native(() => this.#native.saveTo(to))
  }

  /**
   * Gives up the memory or the room on the disk that the content takes. Scans that find no memory wait for it, and are
   * `busy` after a while: do not leave it to the garbage collector. What is being read is read to its end.
   */
  dispose(): void {
    this.#native.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  async *#parts(): AsyncGenerator<Buffer> {
    for (let at = 0; at < this.size;) {
      const part = await native(() => this.#native.read(at, PART))
      at += part.length
      yield part
    }
  }
}

/** What was taken in and scanned, with its content behind the gate. */
export class Upload {
  readonly name: string
  readonly report: Report
  /** Whether the content is handed on: it is clean, and that is proven. */
  readonly isAdmitted: boolean
  readonly #native: NativeUpload

  /** @internal */
  constructor(upload: NativeUpload, name: string) {
    this.name = name
    this.report = new Report(JSON.parse(upload.report))
    this.isAdmitted = upload.admitted
    this.#native = upload
  }

  /**
   * The content, if it is handed on.
   * @throws {InfectedError} a signature matched
   * @throws {UnscannableError} something could not be scanned
   */
  get content(): Content {
    if (!this.isAdmitted) {
      this.report.throwForVerdict(this.name || undefined)
      throw new ScanPipelineError('denied', 'the policy does not hand the content on', { object: this.name })
    }
    return new Content(this.#native, this.report)
  }
  /** Gives the content up; see {@link Content.dispose}. */
  dispose(): void {
    this.#native.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
