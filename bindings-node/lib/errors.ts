import type { Report } from './report'

/**
 * What went wrong, as a word to match on: those of Rust's `ErrorKind`, and `closed`, `infected` and `unscannable`.
 * A later version may add some.
 */
export type ErrorCode =
  | 'config' | 'invalid_input' | 'gone' | 'superseded' | 'exists' | 'too_large' | 'truncated' | 'timeout' | 'busy'
  | 'fenced' | 'cancelled' | 'denied' | 'unsupported' | 'unavailable' | 'resources' | 'engine' | 'corrupt' | 'io'
  | 'panicked' | 'closed' | 'infected' | 'unscannable' | (string & {})

/** What an error is made of. */
export interface ErrorDetails {
  /** Whether the same call may succeed later without a change by the caller. */
  retryable?: boolean | undefined
  /** Milliseconds for which the other side asked to be left alone. */
  retryAfter?: number | undefined
  /** What the error is about. */
  object?: string | undefined
  /** The HTTP status, where the code alone does not say it. */
  statusCode?: number | undefined
  cause?: unknown
}

const STATUS: Record<string, number> = {
  infected: 422, unscannable: 422, denied: 422, too_large: 413, truncated: 400, timeout: 408, busy: 503,
  unavailable: 503, resources: 503, engine: 503, closed: 503,
}

/**
 * Every error of this package. A scan that fails with one says nothing about the content: it is no verdict.
 */
export class ScanPipelineError extends Error {
  readonly code: ErrorCode
  readonly retryable: boolean
  readonly retryAfter?: number
  readonly object?: string
  /** The HTTP status that fits, which Express and Fastify answer with: 422 for a verdict, 413 for too large. */
  readonly statusCode: number

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined)
    this.code = code
    this.retryable = details.retryable ?? false
    if (details.retryAfter !== undefined) this.retryAfter = details.retryAfter
    if (details.object !== undefined) this.object = details.object
    this.statusCode = details.statusCode ?? STATUS[code] ?? 500
  }

  override get name(): string { return 'ScanPipelineError' }

  /** The status under Express's name. */
  get status(): number { return this.statusCode }
}

/** A signature matched. */
export class InfectedError extends ScanPipelineError {
  readonly report: Report
  constructor(report: Report, name = 'the content') {
    super('infected', `${name} is infected: ${report.threats.map((threat) => threat.signature).join(', ')}`)
    this.report = report
  }
  override get name(): string { return 'InfectedError' }
}

/** Nothing matched in what could be scanned, and something could not be: it must not pass as clean. */
export class UnscannableError extends ScanPipelineError {
  readonly report: Report
  constructor(report: Report, name = 'the content') {
    const kinds = [...new Set(report.reasons.map((reason) => reason.kind))]
    super('unscannable', `${name} cannot be scanned: ${kinds.join(', ') || 'nothing proves that it is clean'}`)
    this.report = report
  }
  override get name(): string { return 'UnscannableError' }
}

/** An error as the native side hands it over, whose message is JSON; any other as it is. */
export function fromNative(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  // What the addon's own checks of arguments say.
  if ('code' in error && typeof error.code === 'string' && /^(InvalidArg|[A-Za-z]+Expected)$/.test(error.code)) {
    return new ScanPipelineError('invalid_input', error.message, { cause: error })
  }
  if (!error.message.startsWith('{')) return error
  let told: { code?: unknown; message?: unknown; retryable?: boolean; retry_after_ms?: number; object?: string }
  try {
    told = JSON.parse(error.message)
  } catch {
    return error
  }
  if (typeof told.code !== 'string' || typeof told.message !== 'string') return error
  const { retryable, retry_after_ms: retryAfter, object } = told
  return new ScanPipelineError(told.code, told.message, { retryable, retryAfter, object })
}

/** Calls the native side, with its errors as this package's. */
export async function native<T>(call: () => T | Promise<T>): Promise<T> {
  try {
    return await call()
  } catch (error) {
    throw fromNative(error)
  }
}

/** The same for calls that answer at once. */
export function nativeSync<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw fromNative(error)
  }
}
