import type { Readable } from 'node:stream'
import type { ScanOptions } from './call'
import { ScanPipelineError } from './errors'
import type { Scanner } from './scanner'
import type { Upload } from './upload'

/** What `@fastify/multipart` gives for a file. */
export interface FilePart {
  readonly file: Readable
  readonly filename: string
}

/**
 * Scans a file of `@fastify/multipart` to its end. Take the content from the answer: it throws for what is not clean,
 * with the `statusCode` that Fastify answers with.
 *
 * ```ts
 * app.post('/upload', async (request) => {
 *   const { content, report } = await scanPart(scanner, await request.file())
 *   await content.saveTo(`uploads/${report.sha256}`)
 * })
 * ```
 */
export async function scanPart(scanner: Pick<Scanner, 'scanUpload'>, part: FilePart | undefined, options: ScanOptions = {}): Promise<Upload> {
  if (part === undefined) throw new ScanPipelineError('invalid_input', 'the request has no file', { statusCode: 400 })
  return scanner.scanUpload(part.file, { name: part.filename, ...options })
}
