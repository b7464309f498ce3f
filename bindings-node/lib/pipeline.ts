import { cwd } from 'node:process'
import { call, checkSignal, type ScanOptions } from './call'
import { dispatcher } from './dispatch'
import { fromNative, native, nativeSync, ScanPipelineError } from './errors'
import { addon } from './native'
import { camel, settingsText } from './names'
import { Report, type ReasonKind, type ReportJson, type Status } from './report'
import { Scanner, type Size, type Time } from './scanner'
import type { Source } from './source'
import { Upload } from './upload'
import { HANDLER, isParallel, Workflow, type Handler, type Json, type Node, type ObjectRef, type Step } from './workflow'
import type { NativePipeline, NativeUpload } from '../native'

/** A bucket: an address (`file:///srv/quarantine`, `s3://uploads`, `gs://`, `az://`, `memory://`), or one with options. */
export type BucketSettings = string | {
  url: string
  watch?: boolean
  prefix?: string
  endpoint?: string
  region?: string
  pathStyle?: boolean
  versions?: boolean
  conditionalDelete?: boolean
  accessKey?: string
  secretKey?: string
  sessionToken?: string
}

/** What a pipeline is made of, in the words of the configuration file. */
export interface PipelineSettings {
  scanner: Scanner
  /** `sqlite:///var/lib/app/scan.db`, a path, or `postgres://...`, which several machines share. */
  store: string
  /** Buckets by their short names. */
  buckets?: Record<string, BucketSettings>
  /** What is not said here about taking contents in is as the scanner has it, whose memory the pipeline shares. */
  limits?: {
    maxSize?: Size
    memory?: Size
    memoryThreshold?: Size
    tempDir?: string
    stallTimeout?: Time
    readTimeout?: Time
    concurrency?: number
    scanTimeout?: Time
    scanAttempts?: number
    lease?: Time
    patience?: Time
    settle?: Time
    verdictCache?: number
    durableVerdictCache?: boolean
  }
  /** Where messages come from: `sqlite:///...`, `postgres://...`, an SQS address, `nats://...`. */
  queue?: string | { url: string; deadLetters?: string }
  worker?: {
    messages?: number
    bytes?: Size
    lease?: Time
    wait?: Time
    attempts?: number
    longestPause?: Time
    drain?: Time
    resume?: Time
    bulk?: number
  }
}

export interface StepRecord {
  readonly workflow: string
  readonly step: string
  readonly state: 'running' | 'waiting' | 'done' | 'failed'
  readonly attempt: number
  readonly output: { readonly value?: Json } | null
  readonly error: string | null
  readonly nextAt: string | null
  readonly updated: string
}

/** A task as the store has it. */
export interface Task {
  readonly id: string
  readonly object: ObjectRef
  readonly state: 'pending' | 'scanning' | 'handling' | 'done' | 'superseded' | 'gone' | 'dead'
  readonly attempts: number
  readonly report: Report | null
  readonly workflow: string | null
  /** Where the object is now. */
  readonly place: { readonly place: 'here' | 'deleted' } | { readonly place: 'moved'; readonly object: ObjectRef }
  readonly nextAt: string | null
  readonly error: string | null
  readonly created: string
  readonly updated: string
  readonly steps: readonly StepRecord[]
}

/** What became of an object. */
export interface Processed {
  readonly task: Task
  /** Everything had been done before; nothing was done now. */
  readonly repeated: boolean
  /** How many states of the object were passed over because newer ones took their place. */
  readonly superseded: number
}

/** What happens while a prefix is processed. */
export type Progress =
  | { readonly status: 'done'; readonly processed: Processed }
  /** An object failed; the others go on. `null` for an entry of the listing that cannot be used. */
  | { readonly status: 'failed'; readonly object: ObjectRef | null; readonly error: ScanPipelineError }
  /** The listing broke off: what is behind this key was not seen. Nothing follows. */
  | { readonly status: 'listing_failed'; readonly after: string | null; readonly error: ScanPipelineError }

export interface UploadOptions extends ScanOptions {
  /** An identity of the application's: a second upload with the same one and the same bytes is the same task. */
  id?: string
  /** Milliseconds for the call. What has not ended then has no report, or goes on in `resume()`. */
  timeout?: number
}

/** An object, by the bucket's short name or address. */
export type Wanted = { readonly bucket: string; readonly key: string; readonly version?: string; readonly etag?: string }

/**
 * From an object or an upload to the last action that follows from its scan, once.
 *
 * ```ts
 * const pipeline = new Pipeline({ store: 'sqlite:///var/lib/app/scan.db', scanner, buckets: { quarantine: 'file:///srv/quarantine' } })
 *   .on('clean', workflow('release').then(moveTo('file:///srv/clean')))
 *   .on('infected', workflow('isolate').then(tag()))
 *   .on('unscannable', 'leave')
 * for await (const progress of pipeline.run('quarantine')) console.log(progress.status)
 * ```
 */
export class Pipeline implements AsyncDisposable {
  readonly #from: PipelineSettings
  readonly #policy: Record<string, unknown> = {}
  readonly #workflows = new Map<string, Workflow>()
  readonly #handlers = new Map<string, Handler>()
  #opened: Promise<NativePipeline> | undefined
  #closed = false

  constructor(from: PipelineSettings) {
    const wrong = (what: string) => { throw new ScanPipelineError('config', what) }
    if (from === null || typeof from !== 'object') wrong('the settings of a pipeline are an object')
    if (!(from.scanner instanceof Scanner)) wrong('scanner is what Scanner.open() gives')
    if (typeof from.store !== 'string') wrong('store is an address, such as sqlite:///var/lib/app/scan.db')
    if (from.buckets !== undefined && (from.buckets === null || typeof from.buckets !== 'object')) wrong('buckets are addresses by their names')
    this.#from = from
  }

  /** Says which workflow follows a verdict; `leave` is the word for none. */
  on(status: Status, follows: Workflow | 'leave'): this {
    if (status !== 'clean' && status !== 'infected' && status !== 'unscannable') {
      throw new ScanPipelineError('config', `there is no verdict ${String(status)}: clean, infected or unscannable`)
    }
    this.#policy[status] = this.#name(follows)
    return this
  }

  /** Says which workflow follows where every reason of an unscannable content is this one. */
  onReason(kind: ReasonKind, follows: Workflow | 'leave'): this {
    if (typeof kind !== 'string') throw new ScanPipelineError('config', 'a reason is a word, such as encrypted')
    const table = (this.#policy['unscannable_for'] ??= {}) as Record<string, string>
    table[kind] = this.#name(follows)
    return this
  }

  /** Says which workflow follows a clean content with sensitive data in it. The first rule that matches counts. */
  onFindings(rule: { detectors?: string[]; minConfidence?: number }, follows: Workflow | 'leave'): this {
    if (rule === null || typeof rule !== 'object') throw new ScanPipelineError('config', 'a rule is an object: { detectors, minConfidence }')
    const rules = (this.#policy['findings'] ??= []) as unknown[]
    rules.push({ ...rule, workflow: this.#name(follows) })
    return this
  }

  /** Adds a handler that steps call by this name. */
  handler(name: string, handler: Handler): this {
    this.#changing()
    if (typeof name !== 'string') throw new ScanPipelineError('config', 'a handler has a name')
    if (typeof handler !== 'function') throw new ScanPipelineError('config', `the handler ${name} is no function`)
    const there = this.#handlers.get(name)
    if (there !== undefined && there !== handler) throw new ScanPipelineError('config', `there are two handlers ${name}`)
    this.#handlers.set(name, handler)
    return this
  }

  /**
   * Opens the store and the buckets. Every other call does, too; this one says what is wrong before there is work.
   * @throws {ScanPipelineError} `config` with every mistake, one a line
   */
  async open(): Promise<this> {
    await this.#native()
    return this
  }

  /** What it does, in words, and what may not be meant. */
  async explain(): Promise<{ lines: string[]; warnings: string[] }> {
    const open = await this.#native()
    return JSON.parse(nativeSync(() => open.explain()))
  }

  /**
   * Does everything that has to follow from this object, once. A task that is done is not done again.
   * @throws {ScanPipelineError} `gone` when it is not there, `busy` when somebody else works on it; a `retryable` one
   * can be tried again as it is
   */
  async process(object: Wanted, options: { signal?: AbortSignal } = {}): Promise<Processed> {
    const wanted = wantedJson(object)
    checkOptions(options)
    return this.#cancellable(options.signal, async (open, ticket) => processed(JSON.parse(await open.process(wanted, ticket))))
  }

  /**
   * Takes an upload in, scans it, records the report, runs the workflow that follows, and hands the content on if it is
   * clean. Steps that act on objects are skipped: an upload is none yet.
   */
  async processUpload(source: Source, options: UploadOptions = {}): Promise<ProcessedUpload> {
    checkOptions(options)
    const { id } = options
    if (id !== undefined && typeof id !== 'string') throw new ScanPipelineError('invalid_input', 'id is a text')
    // The source is taken first: it may fail while the store opens, when nobody else would hear of it.
    const taker = {
      path: async (path: Buffer, request: string, ticket: never) => (await this.#native()).processPath(path, request, ticket),
      parts: async (intake: never, request: string, ticket: never) => (await this.#native()).processUpload(intake, request, ticket),
    }
    return new ProcessedUpload(await call(taker, source, options, { id }), options.name ?? '')
  }

  /**
   * Processes everything under an address or a bucket's short name, as long as it is asked for the next. Once the signal is
   * aborted it throws `signal.reason`; workflows that have begun go on until `close()`, or are taken up by `resume()`.
   */
  async *run(address: string, options: { signal?: AbortSignal } = {}): AsyncGenerator<Progress, void, undefined> {
    if (typeof address !== 'string') throw new ScanPipelineError('invalid_input', 'an address is a text')
    checkOptions(options)
    const { signal } = options
    signal?.throwIfAborted()
    const open = await this.#native()
    const run = nativeSync(() => open.run(address))
    const stop = () => run.stop()
    signal?.addEventListener('abort', stop, { once: true })
    try {
      for (;;) {
        signal?.throwIfAborted()
        const next = await native(() => run.next()).catch((error: unknown) => {
          throw signal?.aborted === true ? signal.reason : error
        })
        if (next === null) {
          // Whoever ended it has not seen everything.
          signal?.throwIfAborted()
          return
        }
        yield progress(JSON.parse(next))
      }
    } finally {
      signal?.removeEventListener('abort', stop)
      run.stop()
    }
  }

  /** Puts an object into the queue, for a worker in this process or another. */
  async enqueue(object: Wanted): Promise<void> {
    const wanted = wantedJson(object)
    const open = await this.#native()
    return native(() => open.enqueue(wanted))
  }

  /** Takes messages from the queue until the signal is aborted; then it finishes what has begun, and answers. */
  async work(options: { signal: AbortSignal }): Promise<{ done: number; retried: number; dead: number; abandoned: number }> {
    if (!(options?.signal instanceof AbortSignal)) {
      throw new ScanPipelineError('invalid_input', 'a worker needs { signal }, an AbortSignal, by which it is stopped')
    }
    const open = await this.#native()
    const ticket = new addon.Ticket()
    const stop = () => ticket.cancel()
    if (options.signal.aborted) stop()
    options.signal.addEventListener('abort', stop, { once: true })
    try {
      return JSON.parse(await native(() => open.work(ticket)))
    } finally {
      options.signal.removeEventListener('abort', stop)
    }
  }

  /** Takes up what was left in the middle, by this process or another. Call it at the start and from time to time. */
  async resume(): Promise<{ tasks: Processed[]; errors: { task: string; error: ScanPipelineError }[] }> {
    const open = await this.#native()
    const { tasks, errors } = JSON.parse(await native(() => open.resume()))
    return {
      tasks: tasks.map(processed),
      errors: errors.map(({ task, error }: { task: string; error: unknown }) => ({ task, error: failure(error) })),
    }
  }

  /** A task by its id; `null` when there is none. */
  async task(id: string): Promise<Task | null> {
    if (typeof id !== 'string') throw new ScanPipelineError('invalid_input', "a task's id is a text")
    const open = await this.#native()
    const found = JSON.parse(await native(() => open.task(id)))
    return found === null ? null : task(found)
  }

  /** Takes nothing new, waits for what is under way, and closes the store. The scanner stays open. */
  async close(): Promise<void> {
    this.#closed = true
    const open = await this.#opened?.catch(() => undefined)
    if (open !== undefined) await native(() => open.close())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #changing(): void {
    if (this.#opened !== undefined) throw new ScanPipelineError('config', 'the pipeline is open: say what follows before it is used')
  }

  #name(follows: Workflow | 'leave'): string {
    this.#changing()
    if (follows === 'leave') return follows
    if (!(follows instanceof Workflow)) throw new ScanPipelineError('config', 'what follows is a workflow, or the word leave')
    const there = this.#workflows.get(follows.name)
    if (there !== undefined && there !== follows) throw new ScanPipelineError('config', `there are two workflows ${follows.name}`)
    this.#workflows.set(follows.name, follows)
    for (const step of follows.all()) {
      const handler = (step as { [HANDLER]?: Handler })[HANDLER]
      if (handler !== undefined) this.handler(String(step['handler']), handler)
    }
    return follows.name
  }

  #native(): Promise<NativePipeline> {
    if (this.#closed) return Promise.reject(new ScanPipelineError('closed', 'the pipeline is closed; open another one, or close it later'))
    // What did not work may work the next time.
    return (this.#opened ??= this.#start().catch((error: unknown) => {
      this.#opened = undefined
      throw error
    }))
  }

  async #start(): Promise<NativePipeline> {
    const { scanner, store, buckets = {}, queue, limits, worker, ...strange } = this.#from
    const stranger = Object.keys(strange)[0]
    if (stranger !== undefined) throw new ScanPipelineError('config', `there is no such setting: ${stranger}`)
    const known: Record<string, BucketSettings> = { ...buckets }
    const workflow = Object.fromEntries([...this.#workflows].map(([name, workflow]) => [name, placed(workflow, known)]))
    const tables = () => settingsText({
      store: { url: store }, limits, worker, buckets: known, workflow, policy: this.#policy,
      queue: typeof queue === 'string' ? { url: queue } : queue,
    })
    return native(() => addon.openPipeline(tables(), Buffer.from(cwd()), scanner.native, [...this.#handlers.keys()], dispatcher(this.#handlers)))
  }

  async #cancellable<T>(signal: AbortSignal | undefined, work: (open: NativePipeline, ticket: InstanceType<typeof addon.Ticket>) => Promise<T>): Promise<T> {
    signal?.throwIfAborted()
    const open = await this.#native()
    // A signal that was aborted meanwhile tells it nobody any more.
    signal?.throwIfAborted()
    const ticket = new addon.Ticket()
    const abort = () => ticket.cancel()
    signal?.addEventListener('abort', abort, { once: true })
    try {
      return await native(() => work(open, ticket))
    } catch (error) {
      if (signal?.aborted === true) throw signal.reason
      throw error
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }
}

/** An upload with what became of its task. */
export class ProcessedUpload extends Upload {
  readonly processed: Processed

  /** @internal */
  constructor(upload: NativeUpload, name: string) {
    super(upload, name)
    this.processed = processed(JSON.parse(upload.task ?? 'null'))
  }
}

/** The steps of a workflow, with addresses of buckets as buckets of their own. */
function placed(workflow: Workflow, buckets: Record<string, BucketSettings>): unknown {
  const place = (step: Step): unknown => {
    const to = step['to']
    const address = /^([a-z0-9]+):\/\/(.+)$/.exec(typeof to === 'string' ? to : '')
    if (step.do !== 'relocate' || address === null) return step
    const [, scheme, rest] = address as unknown as [string, string, string]
    // A folder is a bucket; elsewhere what stands behind the first slash is a prefix in it.
    const cut = scheme === 'file' ? -1 : rest.indexOf('/')
    const url = `${scheme}://${cut < 0 ? rest.replace(/(?<=.)\/$/, '') : rest.slice(0, cut)}`
    const prefix = cut < 0 ? '' : rest.slice(cut + 1)
    const there = Object.entries(buckets).find(([, bucket]) => String(typeof bucket === 'string' ? bucket : bucket?.url).replace(/\/$/, '') === url)
    const name = there?.[0] ?? url.replace('://', ':')
    if (there === undefined) buckets[name] = url
    return { ...step, to: name, ...(prefix === '' || step['prefix'] !== undefined ? {} : { prefix }) }
  }
  const all = (nodes: readonly Node[]) => nodes.map((node) => (isParallel(node) ? { parallel: node.parallel.map((branch) => branch.map(place)) } : place(node)))
  const { steps, onFatal } = workflow.table()
  return { steps: all(steps), ...(onFatal === undefined ? {} : { onFatal: all(onFatal) }) }
}

function checkOptions(options: { signal?: AbortSignal | undefined }): void {
  if (options === null || typeof options !== 'object') throw new ScanPipelineError('invalid_input', 'the options are an object')
  checkSignal(options.signal)
}

function wantedJson(object: Wanted): string {
  const { bucket, key, version, etag } = object ?? {}
  const text = (value: unknown) => typeof value === 'string'
  if (!text(bucket) || !text(key) || !(version === undefined || text(version)) || !(etag === undefined || text(etag))) {
    throw new ScanPipelineError('invalid_input', 'an object is named by { bucket, key }, and by version or etag where it is pinned')
  }
  return JSON.stringify({ bucket, key, version, etag })
}

function failure(json: unknown): ScanPipelineError {
  return fromNative(new Error(JSON.stringify(json))) as ScanPipelineError
}

const KEPT = new Set(['value', 'report'])

function task(json: unknown): Task {
  const form = camel(json, KEPT) as Task & { report: ReportJson | null }
  return { ...form, report: form.report === null ? null : new Report(form.report) }
}

function processed(json: { task: unknown; repeated: boolean; superseded: number }): Processed {
  return { task: task(json.task), repeated: json.repeated, superseded: json.superseded }
}

function progress(json: { status: string; processed?: never; object?: unknown; after?: string | null; error?: unknown }): Progress {
  switch (json.status) {
    case 'done': return { status: 'done', processed: processed(json.processed as never) }
    case 'listing_failed': return { status: 'listing_failed', after: json.after ?? null, error: failure(json.error) }
    default: return { status: 'failed', object: json.object === null ? null : camel(json.object) as ObjectRef, error: failure(json.error) }
  }
}
