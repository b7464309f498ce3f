import { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { ScanPipelineError } from './errors'

/**
 * What can be scanned: bytes, a blob or file, a stream that nobody has read from, or the file at a path.
 *
 * Bytes must not be changed until the scan has ended. What is scanned is a copy of them.
 */
export type Source =
  | Uint8Array
  | ArrayBuffer
  | Blob
  | ReadableStream<Uint8Array>
  | Readable
  | AsyncIterable<Uint8Array>
  | { readonly path: string | URL | Buffer }

/** A source as the native side takes it. */
export type Taken =
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  | { readonly kind: 'path'; readonly path: Buffer; readonly name: string }
  | { readonly kind: 'parts'; readonly parts: Parts; readonly size?: number; readonly name?: string }

/** The parts of a stream, one after another. */
export interface Parts {
  /** `null` at the end. */
  next(): Promise<unknown>
  /** Gives the source up. Nobody waits for it: a source that is stuck would never answer. */
  abandon(reason: unknown): void
}

const invalid = (message: string) => new ScanPipelineError('invalid_input', message)

/** Finds out what a source is. */
export function take(source: unknown): Taken {
  if (source instanceof Uint8Array) return { kind: 'bytes', bytes: own(source) }
  if (source instanceof ArrayBuffer) return { kind: 'bytes', bytes: whole(source) }
  if (ArrayBuffer.isView(source)) {
    return { kind: 'bytes', bytes: own(new Uint8Array(source.buffer, source.byteOffset, source.byteLength)) }
  }
  if (typeof source === 'string') {
    throw invalid('a text is neither bytes nor a path: pass Buffer.from(text) for its bytes, or { path: text } for a file')
  }
  if (source === null || typeof source !== 'object') {
    const what = source === null ? 'null' : typeof source
    throw invalid(`${what} cannot be scanned: pass bytes, a Blob, a stream or { path }`)
  }
  if (source instanceof Blob) {
    const name = 'name' in source && typeof source.name === 'string' ? { name: source.name } : {}
    return { kind: 'parts', parts: web(source.stream()), size: source.size, ...name }
  }
  if (source instanceof ReadableStream) {
    if (source.locked) throw invalid('the stream is locked: somebody else reads it')
    fresh(source)
    return { kind: 'parts', parts: web(source as ReadableStream<unknown>) }
  }
  if (isStream(source)) {
    if (!isReadable(source)) {
      throw invalid('this stream is of an old copy of `readable-stream` (or no Readable at all), which does not tell whether ' +
        'somebody has read from it or whether it came to its end: pass new Readable().wrap(stream), with Readable of node:stream')
    }
    fresh(source)
    if (source.destroyed || source.readableEnded) throw invalid('the stream is closed')
    if (source.listenerCount('readable') > 0) throw invalid('somebody else reads the stream, so a scan would not see all of it')
    return { kind: 'parts', parts: readable(source) }
  }
  if (Symbol.asyncIterator in source) return { kind: 'parts', parts: iterated(source as AsyncIterable<unknown>) }
  if ('path' in source) return file(source.path)
  throw invalid('this object cannot be scanned: pass bytes, a Blob, a stream or { path }')
}

/** What has been read from by somebody else is not whole any more: the rest alone must not be called clean. */
function fresh(stream: ReadableStream | Readable): void {
  if (Readable.isDisturbed(stream as Readable)) throw invalid('the stream was read from before, so a scan would not see all of it')
}

/** Memory that other threads can write to is copied here, where that is defined. */
function own(bytes: Uint8Array): Uint8Array {
  if (!(bytes.buffer instanceof ArrayBuffer)) return new Uint8Array(bytes)
  // Memory that was given away shows itself as nothing at all, which is no content.
  if (bytes.byteLength === 0) whole(bytes.buffer)
  return bytes
}

/** All of a buffer that is still there, and as large as it was made. */
function whole(buffer: ArrayBuffer): Uint8Array {
  if ('resizable' in buffer && buffer.resizable === true) throw invalid('a buffer that can be resized is no content: copy it first')
  try {
    return new Uint8Array(buffer)
  } catch (cause) {
    throw new ScanPipelineError('invalid_input', 'the bytes were transferred to somebody else, and are not here any more', { cause })
  }
}

/** A path as the native side takes it, which need not be text. */
export function pathBytes(path: unknown): Buffer {
  const wrong = (cause?: unknown) => new ScanPipelineError('invalid_input', 'a path is a text, a file: URL or a Buffer, and not empty', { cause })
  let bytes: Buffer | undefined
  try {
    bytes = path instanceof URL ? Buffer.from(fileURLToPath(path)) : typeof path === 'string' ? Buffer.from(path)
      : Buffer.isBuffer(path) ? path : undefined
  } catch (cause) {
    throw wrong(cause)
  }
  if (bytes === undefined || bytes.length === 0) throw wrong()
  if (bytes.includes(0)) throw invalid('a path holds no zero byte')
  return bytes
}

function file(path: unknown): Taken {
  const bytes = pathBytes(path)
  const name = bytes.subarray(bytes.lastIndexOf('/') + 1).toString()
  return { kind: 'path', path: bytes, name }
}

function isStream(source: object): source is Partial<Readable> {
  return source instanceof Readable || ('pipe' in source && typeof source.pipe === 'function' && 'on' in source && typeof source.on === 'function')
}

/**
 * Streams of other copies of `stream` (`readable-stream`) are no instances of ours. Only those that tell what a scan has
 * to know are taken: an iterator of version 3 says of a stream that was destroyed, or read by somebody else, that it has
 * come to its end.
 */
function isReadable(source: Partial<Readable>): source is Readable {
  const told = [source.readableDidRead, source.readableEnded, source.destroyed]
  return source instanceof Readable || (told.every((one) => typeof one === 'boolean') && Symbol.asyncIterator in source)
}

function web(stream: ReadableStream<unknown>): Parts {
  const reader = stream.getReader()
  return {
    next: async () => {
      const { done, value } = await reader.read()
      return done ? null : value
    },
    abandon: (reason) => { reader.cancel(reason).catch(() => {}) },
  }
}

function readable(stream: Readable): Parts {
  // Who else reads the stream takes parts away from us. Each part is told to these listeners, whoever took it; with the
  // first of them the second does not set the stream flowing.
  let [told, taken] = [0, 0]
  const tell = () => { told++ }
  const still = () => {}
  stream.on('readable', still)
  stream.on('data', tell)
  const parts = stream[Symbol.asyncIterator]()
  return {
    next: async () => {
      const { done, value } = await parts.next()
      if (done !== true) {
        taken++
        return value
      }
      stream.off('readable', still)
      stream.off('data', tell)
      if (told > taken) throw invalid('somebody else has read parts of the stream, so the scan did not see all of it')
      // Whatever the iterator says: without this one the rest may be missing.
      if (stream.readableEnded !== true) throw new ScanPipelineError('truncated', 'the stream closed before its end')
      // Parsers of uploads end a file that is over their limit as if it were whole.
      if ('truncated' in stream && stream.truncated === true) {
        throw new ScanPipelineError('too_large', 'the upload is over the limit of its parser, which has cut it off')
      }
      return null
    },
    abandon: () => {
      stream.on('error', () => {})
      if (!(stream instanceof IncomingMessage || 'truncated' in stream)) {
        stream.destroy()
        return
      }
      // Part of a request that is still to be answered, on a connection that others will use: what is left of it has to
      // be read by somebody. The iterator that waits here would keep it from flowing.
      stream.off('data', tell)
      stream.removeAllListeners('readable')
      setImmediate(() => stream.resume())
    },
  }
}

/** Iterators that were taken: what is left of one is not the whole. */
const TAKEN = new WeakSet<object>()

function iterated(source: AsyncIterable<unknown>): Parts {
  const parts = source[Symbol.asyncIterator]()
  if (TAKEN.has(parts)) throw invalid('the iterator was scanned before, so a scan would not see all of it')
  TAKEN.add(parts)
  return {
    next: async () => {
      const { done, value } = await parts.next()
      return done === true ? null : value
    },
    abandon: () => { Promise.resolve(parts.return?.()).catch(() => {}) },
  }
}

/** A part of a stream as bytes. */
export function bytesOf(part: unknown): Uint8Array {
  if (part instanceof Uint8Array) return own(part)
  if (part instanceof ArrayBuffer) return whole(part)
  if (ArrayBuffer.isView(part)) return own(new Uint8Array(part.buffer, part.byteOffset, part.byteLength))
  const what = typeof part === 'string' ? 'texts (was setEncoding called?)' : `parts of the type ${part === null ? 'null' : typeof part}`
  throw invalid(`the stream gives ${what}, and not bytes`)
}
