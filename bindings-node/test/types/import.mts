// Compiled and never run: what the types allow, and what they do not.
import {
  call, deleteObject, InfectedError, moveTo, notify, onLog, Pipeline, Report, Scanner, ScanPipelineError, tag, UnscannableError, workflow,
  type Finding, type Handler, type Reason, type Threat, type Verdict,
} from 'scan-pipeline'
import { scanPart } from 'scan-pipeline/fastify'
import { scanStorage } from 'scan-pipeline/multer'
import { ScanPipe } from 'scan-pipeline/nest'
import { failure, scanWeb } from 'scan-pipeline/web'
import type { StorageEngine } from 'multer'
import { Readable } from 'node:stream'

await using scanner = await Scanner.open({ definitions: 'auto', limits: { maxFileSize: '25MB', maxScanTime: 30_000 }, threads: 2 })
// @ts-expect-error A misspelt setting.
await Scanner.open({ definitons: 'auto' })
// @ts-expect-error Threads are counted.
await Scanner.open({ threads: '2' })

const report: Report = await scanner.scan(Buffer.from('a'), { name: 'a.txt', signal: AbortSignal.timeout(1000), timeout: 1000, onProgress: ({ stage, bytes }) => { stage satisfies string; bytes satisfies number } })
await scanner.scan(new Uint8Array(1))
await scanner.scan(new Blob([]))
await scanner.scan(Readable.from([]))
await scanner.scan(new Response('a').body!)
await scanner.scan({ path: new URL('file:///a') })
// @ts-expect-error A text is neither bytes nor a path.
await scanner.scan('a.txt')
// @ts-expect-error Nothing is no source.
await scanner.scan(undefined)
// @ts-expect-error A number is no source.
await scanner.scan(7)

function judge(verdict: Verdict): readonly Threat[] | readonly Reason[] | undefined {
  // @ts-expect-error Only what is infected has threats.
  verdict.threats
  // @ts-expect-error A verdict is no boolean.
  const wrong: boolean = verdict
  void wrong
  switch (verdict.status) {
    case 'clean':
      // @ts-expect-error A clean verdict has no reasons.
      verdict.reasons
      return undefined
    case 'infected': return verdict.threats
    case 'unscannable': return verdict.reasons
    default: return verdict satisfies never
  }
}
judge(report.verdict)
// @ts-expect-error A report cannot be changed.
report.verdict = { status: 'clean' }
// @ts-expect-error Nor can its verdict.
report.verdict.status = 'clean'
const first: Finding | undefined = report.findings[0]
first?.layerPath satisfies string | undefined
// @ts-expect-error The JSON's names are not those of the objects.
first?.layer_path

try {
  report.throwForVerdict()
} catch (error) {
  if (error instanceof InfectedError) error.report.threats satisfies readonly Threat[]
  if (error instanceof UnscannableError) error.report.reasons satisfies readonly Reason[]
  if (error instanceof ScanPipelineError) [error.code satisfies string, error.retryable satisfies boolean, error.statusCode satisfies number]
}

const upload = await scanner.scanUpload(Readable.from([]))
upload.content.stream() satisfies Readable
;(await upload.content.bytes()) satisfies Buffer

const crm: Handler = async ({ report, object }, step) => ({ status: report.verdict.status, key: object.key, step: step.idempotencyKey })
// @ts-expect-error What JSON cannot hold.
const wrong: Handler = async () => ({ big: 1n })
void wrong

const pipeline = new Pipeline({ store: 'sqlite:///scan.db', scanner, buckets: { quarantine: 'file:///srv/quarantine', clean: { url: 's3://clean', region: 'eu-central-1' } } })
  .on('clean', workflow('release').then(moveTo('clean', { tags: true, retry: { attempts: 3, initial: '1s' } }), notify('https://example.com')))
  .on('infected', workflow('isolate').then(tag()).parallel(call('crm', crm), [deleteObject()]).onFatal(tag({ name: 'failed' })))
  .on('unscannable', 'leave')
  .onReason('encrypted', 'leave')
// @ts-expect-error There is no such verdict.
pipeline.on('dirty', 'leave')
for await (const progress of pipeline.run('quarantine', { signal: AbortSignal.timeout(1000) })) {
  switch (progress.status) {
    case 'done': progress.processed.task.state satisfies string; break
    case 'failed': progress.error satisfies ScanPipelineError; break
    case 'listing_failed': progress.after satisfies string | null; break
    default: progress satisfies never
  }
}
;(await pipeline.processUpload(Readable.from([]), { name: 'a' })).processed.task.id satisfies string

const stop: () => void = onLog(({ level, target, message }) => { `${level} ${target} ${message}` satisfies string }, { level: 'info' })
stop()
// @ts-expect-error There is no such level.
onLog(() => {}, { level: 'loud' })

scanStorage(scanner) satisfies StorageEngine
;(await scanPart(scanner, { file: Readable.from([]), filename: 'a' })).report satisfies Report
;(await scanWeb(scanner, new File([], 'a'))).report satisfies Report
failure(new Error()) satisfies Response | undefined
new ScanPipe(scanner) satisfies { transform(value: undefined): Promise<undefined> }
