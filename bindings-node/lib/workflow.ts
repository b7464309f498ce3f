import { ScanPipelineError } from './errors'
import type { Report } from './report'
import type { Time } from './scanner'

/** A JSON value: what handlers answer with, and what is kept of it. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

/** An object in a bucket: which bytes. */
export interface ObjectRef {
  /** The bucket's address, such as `s3://uploads`. */
  readonly bucket: string
  /** Its name there, exactly. */
  readonly key: string
  readonly version?: string
  readonly etag?: string
  readonly size?: number
  /** RFC 3339. */
  readonly modified?: string
}

/** What was scanned, and what was found. */
export interface Scanned {
  /** The task's id. */
  readonly task: string
  /** The object as it was scanned. Where it is now is `step.object`. */
  readonly object: ObjectRef
  readonly report: Report
}

/** The circumstances of one call of a handler. */
export interface StepContext {
  readonly workflow: string
  readonly step: string
  /** 1 for the first call. */
  readonly attempt: number
  /** The same for every call of this step for this task, and for nothing else. Send it outward, so that the other side
   * can tell a repetition from a second call. */
  readonly idempotencyKey: string
  /** Outputs of the steps before this one, by step. */
  readonly outputs: { readonly [step: string]: Json }
  /** Where the object is now; `null` when it was deleted, and for uploads. */
  readonly object: ObjectRef | null
}

/**
 * A handler of your own. It may be called again after it had its effect, with the same idempotency key. What it throws
 * is kept in the journal with its class, and the step is tried again by its retry policy, unless the error has
 * `retryable: false`; `retryAfter` (milliseconds) says not before when.
 */
export type Handler = (result: Scanned, step: StepContext) => Promise<Json | void> | Json | void

/** What every step can have. */
export interface StepOptions {
  /** Its name in the journal: unique in its workflow, and for life. */
  name?: string
  /** Longest time for one call. Default 1 m. */
  timeout?: Time
  retry?: { attempts?: number; initial?: Time; factor?: number; cap?: Time }
}

/** A step of a workflow, made by `tag`, `moveTo`, `notify` and the others. */
export interface Step {
  readonly do: string
  readonly [option: string]: unknown
}

/** Writes the verdict as tags of the object. */
export function tag(options: StepOptions & {
  /** Which tags: `default`, `av-status`, `scan-status`, `clamav-status`, `guardduty`, or facts and their names. */
  vocabulary?: string | Record<string, unknown>
  optional?: boolean
} = {}): Step {
  return { do: 'tag', ...options }
}

/** Moves the object to another bucket, by its short name or its address. */
export function moveTo(bucket: string, options: StepOptions & {
  prefix?: string
  /** A template, such as `{sha256}/{name}`. */
  key?: string
  tags?: boolean | string
  keepSource?: boolean
  onConflict?: 'update' | 'overwrite' | 'rename' | 'fail'
} = {}): Step {
  return { do: 'relocate', to: bucket, ...options }
}

/** Deletes the object, in the state in which it was scanned. */
export function deleteObject(options: StepOptions = {}): Step {
  return { do: 'delete', ...options }
}

/** Sends a signed webhook. */
export function notify(url: string, options: StepOptions & {
  secrets?: string | string[]
  headers?: Record<string, string>
  eventType?: string
  withOutputs?: boolean
  rootCertificate?: string
  allowHttp?: boolean
  allowPrivateAddresses?: boolean
} = {}): Step {
  return { do: 'notify', url, ...options }
}

/** Sends a mail. */
export function email(options: StepOptions & {
  server: string
  from: string
  to: string | string[]
  port?: number
  tls?: 'tls' | 'starttls' | 'none'
  username?: string
  password?: string
  subject?: string
  body?: string
  rootCertificate?: string
}): Step {
  return { do: 'email', ...options }
}

/** Keeps a summary in the journal, or the whole report in a bucket or table. */
export function record(options: StepOptions & { to?: string; prefix?: string } & Record<string, unknown> = {}): Step {
  return { do: 'record', ...options }
}

/** Calls a handler of your own: one that the pipeline has under this name, or this function. */
export function call(name: string, handler?: Handler, options: StepOptions = {}): Step {
  if (typeof name !== 'string') throw new ScanPipelineError('config', 'a handler has a name')
  const step = { do: 'custom', handler: name, ...options }
  if (handler !== undefined) {
    if (typeof handler !== 'function') throw new ScanPipelineError('config', `the handler ${name} is no function`)
    Object.defineProperty(step, HANDLER, { value: handler })
  }
  return step
}

/** @internal */
export const HANDLER = Symbol('handler')

/** @internal */
export type Node = Step | { parallel: Step[][] }

/** @internal */
export function isParallel(node: Node): node is { parallel: Step[][] } {
  return 'parallel' in node
}

/** Named steps in sequence and side by side. Its name is for life: the journal has it. */
export class Workflow {
  readonly name: string
  readonly #steps: Node[] = []
  readonly #onFatal: Node[] = []

  constructor(name: string) {
    if (typeof name !== 'string' || name === '' || name === 'leave') {
      throw new ScanPipelineError('config', 'a workflow needs a name of its own; `leave` is the word for none')
    }
    this.name = name
  }

  /** Adds steps, one after the other. */
  then(...steps: Step[]): this {
    // `await workflow` calls this with two functions.
    if (steps.some((step) => typeof step === 'function')) {
      throw new ScanPipelineError('config', `the workflow ${this.name} is no promise: do not await it or return it from an async function`)
    }
    this.#steps.push(...steps.map(checked))
    return this
  }

  /** Adds branches side by side, each one step or a list of them. */
  parallel(...branches: (Step | Step[])[]): this {
    this.#steps.push({ parallel: branches.map((branch) => (Array.isArray(branch) ? branch : [branch]).map(checked)) })
    return this
  }

  /** Adds steps for when one of the others has failed for good. */
  onFatal(...steps: Step[]): this {
    this.#onFatal.push(...steps.map(checked))
    return this
  }

  /** @internal */
  table(): { steps: Node[]; onFatal?: Node[] } {
    return { steps: this.#steps, ...(this.#onFatal.length === 0 ? {} : { onFatal: this.#onFatal }) }
  }

  /** @internal */
  *all(): Generator<Step> {
    for (const node of [...this.#steps, ...this.#onFatal]) {
      if (isParallel(node)) yield* node.parallel.flat()
      else yield node
    }
  }
}

/** Begins a workflow. */
export function workflow(name: string): Workflow {
  return new Workflow(name)
}

function checked(step: Step): Step {
  if (step === null || typeof step !== 'object' || typeof step.do !== 'string') {
    throw new ScanPipelineError('config', 'a step is made by tag(), moveTo(), notify(), record(), deleteObject(), email() or call()')
  }
  return step
}
