import { fromNative, ScanPipelineError } from './errors'
import { addon } from './native'
import { bytesOf, take, type Source, type Taken } from './source'
import type { Intake, Ticket } from '../native'

/** How far a call is. */
export interface ScanProgress {
  /** `reading` while the content is taken in, then `scanning`, and `done` once, at the end. */
  readonly stage: 'reading' | 'scanning' | 'done'
  /** Bytes that were taken in. */
  readonly bytes: number
  /** Bytes that there will be, where that is known. */
  readonly total?: number
}

export interface ScanOptions {
  /** What the content is called, for layer paths. Default: the name of the file, or `content`. It is never a path. */
  name?: string
  /** Ends the call, which then throws `signal.reason`. */
  signal?: AbortSignal
  /** Milliseconds for the call, the reading of a stream included. A scan that is cut short is unscannable. */
  timeout?: number
  /** Bytes that a stream will have (`Content-Length`). One of another length is refused. */
  size?: number
  /** Is told about ten times a second how far the call is. */
  onProgress?: (progress: ScanProgress) => void
}

/** The native calls that take a source in. */
export interface Taker<T> {
  bytes?(bytes: Uint8Array, request: string, ticket: Ticket): Promise<T> | null
  path?(path: Buffer, request: string, ticket: Ticket): Promise<T>
  parts(intake: Intake, request: string, ticket: Ticket): Promise<T>
}

/** Larger bytes are not copied in the call itself. */
const AT_ONCE = 4 << 20
/**
 * Larger parts are handed over in slices, each in a turn of its own, to keep the event loop going. A few of them wait at a
 * time, outside of the budget for memory.
 */
const SLICE = 512 << 10
const TICK = 100

/** Takes a source in and gives what the native side makes of it. */
export async function call<T>(
  taker: Taker<T>, source: Source, options: ScanOptions, more: Record<string, unknown> = {},
): Promise<T> {
  check(options)
  const { signal, onProgress } = options
  signal?.throwIfAborted()
  const taken = take(source)
  const ticket = new addon.Ticket()
  const size = options.size ?? (taken.kind === 'parts' ? taken.size : undefined)
  const request = JSON.stringify({
    name: lastPart(options.name ?? ('name' in taken ? taken.name : undefined) ?? '').toWellFormed(),
    timeout_ms: options.timeout, announced: size, ...more,
  })
  const total = taken.kind === 'bytes' ? taken.bytes.length : size
  const tell = (stage: ScanProgress['stage']) => onProgress?.({ stage, bytes: ticket.bytes, ...(total === undefined ? {} : { total }) })
  let failed: { error: unknown } | undefined
  const timer = onProgress === undefined ? undefined : setInterval(() => {
    try {
      tell(ticket.scanning ? 'scanning' : 'reading')
    } catch (error) {
      // An exception of a timer would end the process.
      failed = { error }
      ticket.cancel()
    }
  }, TICK)
  const abort = () => ticket.cancel()
  signal?.addEventListener('abort', abort, { once: true })
  try {
    const answer = await start(taker, taken, request, ticket)
    tell('done')
    return answer
  } catch (error) {
    if (failed !== undefined) throw failed.error
    // Whatever the end of the call looks like: a source that has the same signal fails in its own way.
    if (signal?.aborted === true) throw signal.reason
    throw fromNative(error)
  } finally {
    clearInterval(timer)
    signal?.removeEventListener('abort', abort)
  }
}

function check(options: ScanOptions): void {
  const wrong = (what: string) => { throw new ScanPipelineError('invalid_input', what) }
  if (options === null || typeof options !== 'object') wrong('the options are an object')
  const { name, timeout, size, onProgress, signal } = options
  if (name !== undefined && typeof name !== 'string') wrong('name is a text')
  if (timeout !== undefined && !(typeof timeout === 'number' && timeout > 0)) wrong('timeout is a number of milliseconds above 0')
  if (size !== undefined && !(Number.isSafeInteger(size) && size >= 0)) wrong('size is a whole number of bytes')
  if (onProgress !== undefined && typeof onProgress !== 'function') wrong('onProgress is a function')
  checkSignal(signal)
}

/** @internal */
export function checkSignal(signal: unknown): void {
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw new ScanPipelineError('invalid_input', 'signal is an AbortSignal')
}

/** Senders of uploads may write a path where a name should be. */
function lastPart(name: string): string {
  return name.slice(Math.max(name.lastIndexOf('/'), name.lastIndexOf('\\')) + 1)
}

async function start<T>(taker: Taker<T>, taken: Taken, request: string, ticket: Ticket): Promise<T> {
  if (taken.kind === 'path') {
    if (taker.path !== undefined) return taker.path(taken.path, request, ticket)
    throw new ScanPipelineError('invalid_input', 'a path cannot be used here: pass a stream of the file')
  }
  const intake = new addon.Intake()
  if (taken.kind === 'bytes') {
    const { bytes } = taken
    const answer = bytes.length > AT_ONCE ? null : taker.bytes?.(bytes, request, ticket) ?? null
    if (answer !== null) return answer
    const inMemory = JSON.stringify({ ...JSON.parse(request), announced: bytes.length, in_memory: true })
    return feed(taker.parts(intake, inMemory, ticket), intake, ticket, once(bytes))
  }
  return feed(taker.parts(intake, request, ticket), intake, ticket, taken.parts)
}

function once(bytes: Uint8Array) {
  const parts = [bytes]
  return { next: async () => parts.pop() ?? null, abandon: () => {} }
}

/** Copies a part, of any size, without holding the event loop up; says whether more is wanted. */
async function push(intake: Intake, part: Uint8Array): Promise<boolean> {
  const { length } = part
  for (let at = 0; ;) {
    const pushed = intake.push(length <= SLICE ? part : part.subarray(at, at + SLICE))
    if (!(typeof pushed === 'boolean' ? pushed : await pushed)) return false
    at += SLICE
    if (at >= length) return true
    // A turn of the event loop between two slices, whatever the native side has room for.
    await new Promise((resolve) => setImmediate(resolve))
    if (part.length !== length) throw new ScanPipelineError('invalid_input', 'the bytes were given away while they were read')
  }
}

/** Hands the parts over until the source has ended or nobody wants more. */
async function feed<T>(answer: Promise<T>, intake: Intake, ticket: Ticket, parts: { next(): Promise<unknown>; abandon(reason: unknown): void }): Promise<T> {
  // The answer may come before the source ends: too large, cancelled, timed out. A source that is stuck is left then.
  // One reaction for all parts: a race with each of them would keep every part until the answer is there.
  let wake: (over: typeof OVER) => void = () => {}
  let isOver = false
  const over = answer.then(() => {}, () => {}).then(() => {
    isOver = true
    wake(OVER)
  })
  try {
    for (;;) {
      const part = isOver ? OVER : await new Promise<unknown>((resolve, reject) => {
        wake = resolve
        parts.next().then(resolve, reject)
      })
      wake = () => {}
      if (part === OVER) break
      if (part === null) {
        await intake.end()
        return await answer
      }
      if (!await push(intake, bytesOf(part))) break
    }
  } catch (error) {
    // The source's own error is what the caller wants to see. Nothing is left behind meanwhile.
    await intake.fail('the source failed')
    ticket.cancel()
    await over
    parts.abandon(error)
    throw error
  }
  try {
    return await answer
  } finally {
    parts.abandon(undefined)
  }
}

const OVER: unique symbol = Symbol('over')
