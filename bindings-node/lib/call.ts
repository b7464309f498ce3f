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

/** Larger bytes are handed over in slices, each in a turn of its own, to keep the event loop going. */
const AT_ONCE = 4 << 20
/** A few of them wait at a time, outside of the budget for memory. */
const SLICE = 512 << 10
const TICK = 100

/** Takes a source in and gives what the native side makes of it. */
export async function call<T>(
  taker: Taker<T>, source: Source, options: ScanOptions, more: Record<string, unknown> = {},
): Promise<T> {
  const { signal, onProgress } = options
  check(options)
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
    const ours = fromNative(error)
    if (signal?.aborted === true && ours instanceof ScanPipelineError && ours.code === 'cancelled') throw signal.reason
    throw ours
  } finally {
    clearInterval(timer)
    signal?.removeEventListener('abort', abort)
  }
}

function check(options: ScanOptions): void {
  const wrong = (what: string) => { throw new ScanPipelineError('invalid_input', what) }
  const { name, timeout, size, onProgress, signal } = options
  if (name !== undefined && typeof name !== 'string') wrong('name is a text')
  if (timeout !== undefined && !(typeof timeout === 'number' && timeout > 0)) wrong('timeout is a number of milliseconds above 0')
  if (size !== undefined && !(Number.isSafeInteger(size) && size >= 0)) wrong('size is a whole number of bytes')
  if (onProgress !== undefined && typeof onProgress !== 'function') wrong('onProgress is a function')
  if (signal !== undefined && !(signal instanceof AbortSignal)) wrong('signal is an AbortSignal')
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
    return feed(taker.parts(intake, inMemory, ticket), intake, ticket, slices(bytes))
  }
  return feed(taker.parts(intake, request, ticket), intake, ticket, taken.parts)
}

function slices(bytes: Uint8Array) {
  const length = bytes.length
  let at = 0
  return {
    next: async () => {
      // A turn of the event loop between two slices, whatever the native side has room for.
      if (at > 0) await new Promise((resolve) => setImmediate(resolve))
      if (bytes.length !== length) throw new ScanPipelineError('invalid_input', 'the bytes were given away while they were read')
      if (at >= length) return null
      const part = bytes.subarray(at, at + SLICE)
      at += part.length
      return part
    },
    abandon: () => {},
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
      const pushed = intake.push(bytesOf(part))
      if (!(typeof pushed === 'boolean' ? pushed : await pushed)) break
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
