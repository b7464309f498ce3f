/** Names between JavaScript's camelCase and the snake_case of JSON and of the configuration file. */
import { ScanPipelineError } from './errors'

type Json = unknown

/** Reports have some fifty names, over and over. */
const CAMEL = new Map<string, string>()

function toCamel(name: string): string {
  let out = CAMEL.get(name)
  if (out === undefined) {
    out = name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
    if (CAMEL.size < 1000) CAMEL.set(name, out)
  }
  return out
}

const toSnake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

/** The same value with keys in camelCase. What is under a key of `kept` is somebody else's and stays as it is. */
export function camel(value: Json, kept: ReadonlySet<string> = new Set()): Json {
  return rename(value, toCamel, (key) => (kept.has(key) ? 'whole' : 'renamed'))
}

/** Keys of the configuration whose tables have names of the user's own as keys. */
const NAMED = new Set(['buckets', 'workflow'])
/** Keys whose tables are the user's own altogether. */
const OWN = new Set(['headers', 'columns'])
/** Keys that hold a time: a number there is one of milliseconds. */
const TIMES = new Set([
  'cap', 'connect_timeout', 'drain', 'initial', 'interval', 'io_timeout', 'lease', 'longest_pause', 'max_scan_time',
  'patience', 'read_timeout', 'resume', 'room_timeout', 'scan_timeout', 'settle', 'stall_timeout', 'timeout', 'wait',
])

/** Settings in the words of the configuration file. */
export function settings(value: Json): Json {
  return rename(value, toSnake, (key) => (OWN.has(key) ? 'whole' : NAMED.has(key) ? 'keys' : 'renamed'), (key, inner) =>
    TIMES.has(key) && typeof inner === 'number' ? `${Math.max(0, Math.round(inner))}ms` : inner)
}

/** The same as text, for the native side. */
export function settingsText(value: Json): string {
  try {
    return JSON.stringify(settings(value))
  } catch (cause) {
    throw new ScanPipelineError('config', 'the settings hold what JSON cannot: a circle, or a number of another kind', { cause })
  }
}

type Treatment = 'whole' | 'keys' | 'renamed'

function rename(
  value: Json, name: (key: string) => string, treat: (key: string) => Treatment,
  set: (key: string, value: Json) => Json = (_, inner) => inner, keepKeys = false,
): Json {
  if (Array.isArray(value)) return value.map((item) => rename(item, name, treat, set))
  if (value === null || typeof value !== 'object') return value
  const out: Record<string, Json> = {}
  for (const key of Object.keys(value)) {
    const inner = (value as Record<string, Json>)[key]
    if (inner === undefined) continue
    const to = keepKeys ? key : name(key)
    const how = keepKeys ? 'renamed' : treat(to)
    const renamed = how === 'whole' ? inner : rename(inner, name, treat, set, how === 'keys')
    const put = keepKeys ? renamed : set(to, renamed)
    // An assignment to this one would set a prototype.
    if (to === '__proto__') Object.defineProperty(out, to, { value: put, enumerable: true, writable: true, configurable: true })
    else out[to] = put
  }
  return out
}
