import type { ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import type { ScanOptions } from './call'
import { ScanPipelineError } from './errors'
import { disposeAfter } from './multer'
import type { Scanner } from './scanner'
import type { Upload } from './upload'

/** What `@fastify/multipart` gives for a file. */
export interface FilePart {
  readonly file: Readable
  readonly filename: string
}

export interface ScanPartOptions extends ScanOptions {
  /** Fastify's reply: the content is disposed of when it is over. Without, the caller does that: `upload.dispose()`. */
  reply?: { readonly raw: ServerResponse }
}

/**
 * Scans a file of `@fastify/multipart` to its end. Take the content from the answer: it throws for what is not clean,
 * with the `statusCode` that Fastify answers with.
 *
 * ```ts
 * app.post('/upload', async (request, reply) => {
 *   const { content, report } = await scanPart(scanner, await request.file(), { reply })
 *   await content.saveTo(`uploads/${report.sha256}`)
 * })
 * ```
 */
export async function scanPart(scanner: Pick<Scanner, 'scanUpload'>, part: FilePart | undefined, options: ScanPartOptions = {}): Promise<Upload> {
  if (part === undefined || part === null) throw new ScanPipelineError('invalid_input', 'the request has no file', { statusCode: 400 })
  const { reply, ...rest } = options ?? {}
  const upload = await scanner.scanUpload(part.file, { name: part.filename, ...rest })
  disposeAfter(reply?.raw, upload)
  return upload
}
