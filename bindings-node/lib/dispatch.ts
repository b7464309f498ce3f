/** Calls of the native side to handlers that are JavaScript functions. */
import { camel } from './names'
import { Report } from './report'
import type { Handler, ObjectRef, StepContext } from './workflow'

/** Answers for every handler, and never fails: what a handler throws is part of the answer. */
export function dispatcher(handlers: ReadonlyMap<string, Handler>): (call: string) => Promise<string> {
  return async (text) => {
    try {
      const { handler, result, step } = JSON.parse(text)
      const scanned = { task: result.task, object: camel(result.object) as ObjectRef, report: new Report(result.report) }
      const value = await handlers.get(handler)!(scanned, camel(step, new Set(['outputs'])) as StepContext)
      return answer(handler, value)
    } catch (error) {
      return json({ error: told(error) })
    }
  }
}

/** JSON that others can read: half of a surrogate pair, as a cut text has it, is no text to them. */
function json(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'string' ? inner.toWellFormed() : inner))
}

function answer(handler: string, value: unknown): string {
  let text: string | undefined
  try {
    text = json({ value: value ?? null })
    if (typeof value === 'function' || typeof value === 'symbol') throw new TypeError(`it is a ${typeof value}`)
  } catch (error) {
    // It will answer the same the next time.
    const why = error instanceof Error ? error.message : String(error)
    return json({ error: { message: `the answer of the handler ${handler} cannot be kept as JSON: ${why}`, retryable: false } })
  }
  return text
}

/** What is kept of an error: its class and its words, and what it says about another attempt. */
function told(error: unknown): { message: string; retryable: boolean; retry_after_ms?: number } {
  try {
    if (!(error instanceof Error)) return { message: `thrown: ${String(error)}`, retryable: true }
    const { name, message, retryable, retryAfter } = error as Error & { retryable?: unknown; retryAfter?: unknown }
    const own = error.constructor?.name
    const kind = name !== 'Error' || own === undefined || own === '' ? name : own
    return {
      message: message === '' ? String(kind) : `${String(kind)}: ${String(message)}`,
      retryable: retryable !== false,
      ...(typeof retryAfter === 'number' && retryAfter >= 0 ? { retry_after_ms: retryAfter } : {}),
    }
  } catch {
    return { message: 'thrown: something that does not even say what it is', retryable: true }
  }
}
