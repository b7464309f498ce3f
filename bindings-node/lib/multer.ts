import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import type { ScanOptions } from './call'
import type { Scanner } from './scanner'
import type { Content, Upload } from './upload'
import type { Report } from './report'

export interface ScanStorageOptions extends Pick<ScanOptions, 'timeout'> {
  /** Whether `file.buffer` is filled, as multer's memory storage does. Default true; `file.content` is there always. */
  buffer?: boolean
  /**
   * Whether `file.content` is kept when the response is over. Default false: it is disposed of then, since what it takes is
   * missing for other scans. Who keeps it calls `file.content.dispose()`.
   */
  keep?: boolean
}

/** What a route gets in `req.file`, beside multer's own fields. */
export interface ScannedFile {
  readonly report: Report
  readonly content: Content
  readonly size: number
  readonly buffer?: Buffer
}

/** What multer calls a `StorageEngine`, without its types, which need not be there. */
export interface ScanStorage {
  _handleFile(request: IncomingMessage, file: { readonly stream: Readable; readonly originalname: string }, done: (error?: unknown, info?: ScannedFile) => void): void
  _removeFile(request: IncomingMessage, file: object, done: (error: Error | null) => void): void
}

/**
 * A storage engine for multer: each file is scanned to its end before the route sees it, and the route sees clean files
 * alone. For any other the request fails with an `InfectedError` or `UnscannableError`, and an error handler of Express
 * answers with its `status`.
 *
 * ```ts
 * app.post('/upload', multer({ storage: scanStorage(scanner) }).single('file'), (req, res) => { ... })
 * ```
 */
export function scanStorage(scanner: Pick<Scanner, 'scanUpload'>, options: ScanStorageOptions = {}): ScanStorage {
  const { buffer = true, keep = false, timeout } = options
  async function handle(request: IncomingMessage, file: { readonly stream: Readable; readonly originalname: string }): Promise<ScannedFile> {
    const aborted = new AbortController()
    // A sender that has gone leaves a stream behind that never ends.
    const gone = () => {
      if (!request.complete) aborted.abort(new Error('the sender of the upload has gone'))
    }
    request.once('close', gone)
    try {
      const signal = aborted.signal
      const upload = await scanner.scanUpload(file.stream, { name: file.originalname, signal, ...(timeout === undefined ? {} : { timeout }) })
      // Express hangs the response on the request.
      if (!keep) disposeAfter((request as IncomingMessage & { res?: ServerResponse }).res, upload)
      const { content, report } = upload
      return { report, content, size: content.size, ...(buffer ? { buffer: await content.bytes() } : {}) }
    } finally {
      request.off('close', gone)
    }
  }
  return {
    _handleFile(request, file, done) {
      handle(request, file).then((info) => done(null, info), (error: unknown) => done(error))
    },
    _removeFile(_request, file, done) {
      (file as Partial<ScannedFile>).content?.dispose()
      done(null)
    },
  }
}

/** @internal */
export function disposeAfter(response: ServerResponse | undefined, upload: Upload): void {
  if (response === undefined) return
  if (response.closed) upload.dispose()
  else response.once('close', () => upload.dispose())
}
