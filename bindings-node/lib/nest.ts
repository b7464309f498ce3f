import { HttpException, type PipeTransform } from '@nestjs/common'
import type { ScanOptions } from './call'
import { ScanPipelineError } from './errors'
import type { Report } from './report'
import type { Scanner } from './scanner'

/** A file as multer gives it from its memory storage. */
export interface NestFile {
  readonly originalname: string
  readonly buffer?: Buffer
}

/**
 * A pipe that hands on clean files alone, with their `report`. Others end in an `HttpException` with the status that
 * fits: 422 for a verdict, 413 for too large.
 *
 * ```ts
 * @Post('upload')
 * @UseInterceptors(FileInterceptor('file'))
 * upload(@UploadedFile(new ScanPipe(scanner)) file: Express.Multer.File & { report: Report }) { ... }
 * ```
 */
export class ScanPipe implements PipeTransform {
  readonly #scanner: Pick<Scanner, 'scan'>
  readonly #options: ScanOptions

  constructor(scanner: Pick<Scanner, 'scan'>, options: ScanOptions = {}) {
    this.#scanner = scanner
    this.#options = options
  }

  async transform<T extends NestFile | readonly NestFile[] | undefined>(value: T): Promise<T> {
    try {
      if (Array.isArray(value)) return await Promise.all(value.map((file) => this.#scan(file))) as unknown as T
      return (await this.#scan(value as NestFile | undefined)) as unknown as T
    } catch (error) {
      if (!(error instanceof ScanPipelineError)) throw error
      throw new HttpException({ statusCode: error.statusCode, error: error.code }, error.statusCode, { cause: error })
    }
  }

  async #scan(file: NestFile | undefined): Promise<NestFile & { report: Report }> {
    if (file === undefined) throw new ScanPipelineError('invalid_input', 'the request has no file', { statusCode: 400 })
    // What lies in a folder can be another file by the time that somebody opens it, and nobody would clear it away.
    if (file.buffer === undefined) {
      throw new ScanPipelineError('config', 'the file is not in memory: leave out `dest` and disk storage, or use scanStorage of scan-pipeline/multer')
    }
    const scanned = await this.#scanner.scan(file.buffer, { name: file.originalname, ...this.#options })
    scanned.throwForVerdict(file.originalname)
    return Object.assign(file, { report: scanned })
  }
}
