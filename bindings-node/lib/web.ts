import type { ScanOptions } from './call'
import { ScanPipelineError } from './errors'
import type { Scanner } from './scanner'
import type { Upload } from './upload'

/**
 * Scans a `File` or `Blob` of a form, or the body of a `Request`, to its end: for Hono, Next and whatever speaks fetch.
 * Take the content from the answer: it throws for what is not clean.
 *
 * ```ts
 * app.post('/upload', async (c) => {
 *   const { file } = await c.req.parseBody()
 *   const upload = await scanWeb(scanner, file as File)
 *   try {
 *     await upload.content.saveTo(`uploads/${upload.report.sha256}`)
 *     return c.json({ sha256: upload.report.sha256 })
 *   } finally {
 *     upload.dispose()
 *   }
 * })
 * app.onError((error, c) => failure(error) ?? c.text('something went wrong', 500))
 * ```
 */
export async function scanWeb(scanner: Pick<Scanner, 'scanUpload'>, source: Blob | Request, options: ScanOptions = {}): Promise<Upload> {
  if (source instanceof Blob) return scanner.scanUpload(source, options)
  // What is missing is missing in what the sender has sent.
  const missing = (what: string) => new ScanPipelineError('invalid_input', what, { statusCode: 400 })
  if (!(source instanceof Request)) throw missing('the form has no file there: a File, Blob or Request can be scanned')
  if (source.body === null) throw missing('the request has no body')
  const announced = source.headers.get('content-length')
  const size = announced === null || !/^\d+$/.test(announced) ? {} : { size: Number(announced) }
  return scanner.scanUpload(source.body, { signal: source.signal, ...size, ...options })
}

/** The answer that fits one of this package's errors; `undefined` for another's. */
export function failure(error: unknown): Response | undefined {
  if (!(error instanceof ScanPipelineError)) return undefined
  const { code, statusCode } = error
  // The message may name what only the operator should see.
  return Response.json({ error: code }, { status: statusCode })
}
