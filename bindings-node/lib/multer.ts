import type { Request } from 'express'
import type { StorageEngine } from 'multer'
import type { ScanOptions } from './call'
import type { Scanner } from './scanner'
import type { Content } from './upload'
import type { Report } from './report'

export interface ScanStorageOptions extends Pick<ScanOptions, 'timeout'> {
  /** Whether `file.buffer` is filled, as multer's memory storage does. Default true; `file.content` is there always. */
  buffer?: boolean
}

/** What a route gets in `req.file`, beside multer's own fields. */
export interface ScannedFile {
  readonly report: Report
  readonly content: Content
  readonly size: number
  readonly buffer?: Buffer
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
export function scanStorage(scanner: Pick<Scanner, 'scanUpload'>, options: ScanStorageOptions = {}): StorageEngine {
  const { buffer = true, timeout } = options
  async function handle(request: Request, file: Express.Multer.File): Promise<Partial<Express.Multer.File> & ScannedFile> {
    const aborted = new AbortController()
    // A sender that has gone leaves a stream behind that never ends.
    const gone = () => {
      if (!request.complete) aborted.abort(new Error('the sender of the upload has gone'))
    }
    request.once('close', gone)
    try {
      const signal = aborted.signal
      const upload = await scanner.scanUpload(file.stream, { name: file.originalname, signal, ...(timeout === undefined ? {} : { timeout }) })
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
      (file as Express.Multer.File & Partial<ScannedFile>).content?.dispose()
      done(null)
    },
  }
}
