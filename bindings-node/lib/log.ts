import { ScanPipelineError } from './errors'
import { addon } from './native'

const LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const
export type LogLevel = (typeof LEVELS)[number]

/** Something that the native side has to say. */
export interface LogRecord {
  readonly level: LogLevel
  /** The part of the library that says it, such as `scan_pipeline::pipeline::follow`. */
  readonly target: string
  /** What it says, and the facts as `name=value`. No content and no secret is in it. */
  readonly message: string
  /** Records before this one that came too fast for the hook, and were left out. */
  readonly leftOut: number
}

/**
 * Tells a function of an application's log what the native side has to say; without, nobody hears of it. The function is
 * called in this thread; what it throws is ignored. It keeps no process alive, and nothing waits for it.
 *
 * ```ts
 * const stop = onLog(({ level, target, message }) => log[level]({ target }, message))
 * ```
 *
 * @param options.level the least important level to hear of; default `warn`
 * @returns a function that ends it
 */
export function onLog(hook: (record: LogRecord) => void, options: { level?: LogLevel } = {}): () => void {
  if (typeof hook !== 'function') throw new ScanPipelineError('invalid_input', 'the hook is a function')
  const level = options?.level ?? 'warn'
  const number = LEVELS.indexOf(level) + 1
  if (number === 0) throw new ScanPipelineError('invalid_input', `there is no level ${String(level)}: ${LEVELS.join(', ')}`)
  const tell = (text: string) => {
    try {
      const { left_out: leftOut, ...record } = JSON.parse(text)
      // One that is asynchronous may reject, which would end the process.
      Promise.resolve(hook({ ...record, leftOut })).catch(() => {})
    } catch {
      // There is nobody to tell.
    }
  }
  const log = new addon.NativeLog(tell, number)
  return () => log.stop()
}
