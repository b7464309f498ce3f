import assert from 'node:assert/strict'
import { createReadStream, mkdirSync, writeFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { createServer, request } from 'node:http'
import { once } from 'node:events'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import v8 from 'node:v8'
import vm from 'node:vm'
import { Scanner, ScanPipelineError } from 'scan-pipeline'
import { definitions, eicar, filler, folder, samples, zip } from './support.mjs'

const dir = folder()
let scanner
before(async () => { scanner = await Scanner.open({ definitions, spool: { maxSize: '1MB', stallTimeout: '1s' } }) })
after(() => scanner.close())

const fails = (promise, code, message = /./) => assert.rejects(promise, (error) => {
  assert.ok(error instanceof ScanPipelineError, String(error?.stack ?? error))
  assert.equal(error.code, code, error.message)
  assert.match(error.message, message)
  assert.equal(typeof error.retryable, 'boolean')
  return true
})

test('what is no source is refused, and not called clean', async () => {
  for (const source of ['text', '', 7, null, undefined, true, {}, [], new Map(), Symbol('s'), () => {}, { path: 7 }, { path: '' }, { path: 'a\0b' }, Promise.resolve(eicar)]) {
    await fails(scanner.scan(source), 'invalid_input')
  }
})

test('options of the wrong kind are refused', async () => {
  for (const options of [{ name: 7 }, { timeout: 0 }, { timeout: -1 }, { timeout: NaN }, { timeout: '3s' }, { size: -1 }, { size: 1.5 }, { onProgress: 7 }, { signal: {} }]) {
    await fails(scanner.scan(eicar, options), 'invalid_input')
  }
})

test('settings of the wrong kind are refused, with the place', async () => {
  await fails(Scanner.open({ definitons: definitions }), 'config', /definitons/)
  await fails(Scanner.open({ definitions: join(dir, 'nowhere') }), 'config', /nowhere/)
  await fails(Scanner.open({ definitions, threads: 0 }), 'config', /threads/)
  await fails(Scanner.open({ definitions, threads: 'many' }), 'config', /threads/)
  await fails(Scanner.open({ definitions, limits: { maxFileSize: 'huge' } }), 'config', /max_file_size/)
  await fails(Scanner.open({ definitions, limits: { maxFile: 1 } }), 'config', /max_file/)
  await fails(Scanner.open({ definitions, detect: ['snn'] }), 'config', /ssn/)
  await fails(Scanner.open({ definitions, spool: { maxSize: -1 } }), 'config')
  const empty = join(dir, 'empty')
  mkdirSync(empty, { recursive: true })
  await fails(Scanner.open({ definitions: empty }), 'config')
})

test('files that are none are refused', async () => {
  await fails(scanner.scan({ path: join(dir, 'not-there') }), 'gone', /not-there/)
  await fails(scanner.scan({ path: dir }), 'invalid_input', /regular file/)
  await fails(scanner.scan({ path: '/dev/zero' }), 'invalid_input')
  execFileSync('mkfifo', [join(dir, 'fifo')])
  await fails(scanner.scan({ path: join(dir, 'fifo') }), 'invalid_input')
})

test('a stream that was read from, closed, locked or destroyed is refused', async () => {
  const ended = Readable.from([eicar])
  await ended.toArray()
  await fails(scanner.scan(ended), 'invalid_input', /read from/)
  const begun = new PassThrough()
  begun.write(eicar)
  begun.write(eicar)
  begun.read(10)
  await fails(scanner.scan(begun), 'invalid_input', /read from/)
  const destroyed = new PassThrough()
  destroyed.destroy()
  await fails(scanner.scan(destroyed), 'invalid_input')
  const locked = new Response(eicar).body
  locked.getReader()
  await fails(scanner.scan(locked), 'invalid_input', /locked/)
  const disturbed = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(10)) })
  const reader = disturbed.getReader()
  await reader.read()
  reader.releaseLock()
  await fails(scanner.scan(disturbed), 'invalid_input', /read from/)
  const file = createReadStream(join(dir, 'never'))
  await assert.rejects(scanner.scan(file), { code: 'ENOENT' })
})

test('a stream of texts or objects is refused', async () => {
  await fails(scanner.scan(Readable.from(['text'])), 'invalid_input', /texts/)
  await fails(scanner.scan(Readable.from([{ a: 1 }])), 'invalid_input')
  writeFileSync(join(dir, 'a.txt'), 'text')
  await fails(scanner.scan(createReadStream(join(dir, 'a.txt'), 'utf8')), 'invalid_input', /setEncoding/)
})

test('a source that throws fails the scan with its own error', async () => {
  class Broken extends Error {}
  const broken = new Broken('the generator broke')
  const cleaned = []
  async function* generator() {
    try {
      yield filler(100)
      throw broken
    } finally { cleaned.push('yes') }
  }
  await assert.rejects(scanner.scan(generator()), (error) => error === broken)
  assert.deepEqual(cleaned, ['yes'])
  await assert.rejects(scanner.scan(Readable.from(generator())), (error) => error === broken)
  await assert.rejects(scanner.scan(new ReadableStream({ start: (controller) => controller.error(broken) })), (error) => error === broken)
  const dying = new PassThrough()
  dying.write(filler(10))
  setImmediate(() => dying.destroy(broken))
  await assert.rejects(scanner.scan(dying), (error) => error === broken)
})

test('a stream that closes before its end is no content', async () => {
  const closing = new PassThrough()
  closing.write(samples.clean.bytes)
  setImmediate(() => closing.destroy())
  await assert.rejects(scanner.scan(closing), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
})

test('a body that breaks off is no content', async () => {
  const results = []
  const server = createServer((incoming) => results.push(scanner.scan(incoming)))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const sent = request({ port: server.address().port, method: 'POST', headers: { 'content-length': 1000 } })
  sent.on('error', () => {})
  sent.write(samples.clean.bytes.subarray(0, 100))
  while (results.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  sent.destroy()
  await assert.rejects(results[0], (error) => /aborted|ECONNRESET|closed/.test(`${error.code} ${error.message}`))
  server.close()
})

test('more than is allowed is refused, whatever it comes in, and its source is given up', async () => {
  const much = filler((1 << 20) + 1)
  writeFileSync(join(dir, 'much'), much)
  await fails(scanner.scan(much), 'too_large')
  await fails(scanner.scan({ path: join(dir, 'much') }), 'too_large')
  await fails(scanner.scan(new Blob([much])), 'too_large')
  let given = false
  async function* endless() {
    try { for (;;) yield filler(100_000) } finally { given = true }
  }
  await fails(scanner.scan(endless()), 'too_large')
  assert.ok(given)
  const stream = Readable.from((function* () { for (;;) yield filler(100_000) })())
  await fails(scanner.scan(stream), 'too_large')
  assert.ok(stream.destroyed)
  let cancelled = false
  await fails(scanner.scan(new ReadableStream({ pull: (to) => to.enqueue(filler(100_000)), cancel: () => { cancelled = true } })), 'too_large')
  assert.ok(cancelled)
})

test('a source that gives nothing more, or nothing at all, is given up', async () => {
  async function* stuck() {
    yield filler(100)
    await new Promise(() => {})
  }
  await fails(scanner.scan(stuck()), 'timeout')
  async function* nothing() { for (;;) yield new Uint8Array(0) }
  await fails(scanner.scan(nothing()), 'timeout')
  await fails(scanner.scan(new PassThrough(), { timeout: 50 }), 'timeout')
})

test('a content that is not as long as it was announced is refused', async () => {
  await fails(scanner.scan(Readable.from([filler(100)]), { size: 101 }), 'truncated')
  await fails(scanner.scan(Readable.from([filler(100)]), { size: 99 }), 'too_large')
  assert.equal((await scanner.scan(Readable.from([filler(100)]), { size: 100 })).verdict.status, 'clean')
})

test('a parser that has cut an upload off is noticed', async () => {
  const stream = Readable.from([samples.clean.bytes])
  stream.truncated = true
  await fails(scanner.scan(stream), 'too_large', /cut it off/)
})

test('an aborted call throws the reason of its signal', async () => {
  const reason = { any: 'thing' }
  await assert.rejects(scanner.scan(eicar, { signal: AbortSignal.abort(reason) }), (error) => error === reason)
  const controller = new AbortController()
  const stuck = new PassThrough()
  const scan = scanner.scan(stuck, { signal: controller.signal })
  setImmediate(() => controller.abort(reason))
  await assert.rejects(scan, (error) => error === reason)
  assert.ok(stuck.destroyed)
  await assert.rejects(scanner.scan(new PassThrough(), { signal: AbortSignal.timeout(20) }), { name: 'TimeoutError' })
  const late = new AbortController()
  const report = await scanner.scan(eicar, { signal: late.signal })
  late.abort(reason)
  assert.equal(report.verdict.status, 'infected')
})

test('a scan under way is aborted', async () => {
  // Many layers, each of which is a place to stop at; alone it takes seconds.
  const large = await Scanner.open({ definitions, threads: 1 })
  const heavy = zip(Object.fromEntries(Array.from({ length: 3000 }, (_, n) => [`${n}.bin`, filler(20_000, n + 1)])))
  const controller = new AbortController()
  const reason = new Error('enough')
  let stage
  const scan = large.scan(heavy, {
    signal: controller.signal,
    onProgress: (progress) => {
      ({ stage } = progress)
      if (stage === 'scanning') controller.abort(reason)
    },
  })
  await assert.rejects(scan, (error) => error === reason)
  assert.equal(stage, 'scanning')
  // Its only thread is free again.
  assert.equal((await large.scan(eicar)).verdict.status, 'infected')
  await large.close()
})

test('a timeout that has passed is no verdict', async () => {
  await fails(scanner.scan(samples.clean.bytes, { timeout: 1e-6 }), 'timeout')
})

test('progress that throws fails its call, and no other', async () => {
  const onProgress = () => { throw new Error('mine') }
  await assert.rejects(scanner.scan(eicar, { onProgress }), { message: 'mine' })
  await assert.rejects(scanner.scan(new PassThrough(), { onProgress }), { message: 'mine' })
})

test('a scanner that was closed is of no use, and closing it again is none either', async () => {
  const closing = await Scanner.open({ definitions, threads: 2 })
  const under = closing.scan(samples.infected.bytes)
  await closing.close()
  assert.equal((await under).verdict.status, 'infected')
  for (const use of [() => closing.scan(eicar), () => closing.scanUpload(eicar), () => closing.health(), () => closing.refreshDefinitions(), async () => closing.info]) {
    await fails(use(), 'closed')
  }
  await closing.close()
})

test('a stream that somebody else reads, too, is not called clean on its rest', async () => {
  const path = join(dir, 'shared.bin')
  writeFileSync(path, filler(900_000))
  const drain = async (stream) => { for await (const _ of stream); }
  const first = createReadStream(path)
  const other = drain(first).catch(() => {})
  await fails(scanner.scan(first), 'invalid_input', /somebody else|read from/)
  await other
  const second = createReadStream(path)
  const scan = scanner.scan(second)
  second.prependListener('readable', () => second.read(1000))
  await fails(scan, 'invalid_input', /somebody else/)
  const alone = await scanner.scan(createReadStream(path))
  assert.equal(alone.size, 900_000)
})

test('an iterator is scanned once', async () => {
  const parts = (async function* () { yield Buffer.from('the whole of it') })()
  assert.equal((await scanner.scan(parts)).verdict.status, 'clean')
  await fails(scanner.scan(parts), 'invalid_input', /before/)
})

test('bytes that were given away are not called clean', async () => {
  const bytes = new Uint8Array(Buffer.concat([eicar, filler(1000)]))
  structuredClone(bytes, { transfer: [bytes.buffer] })
  await fails(scanner.scan(bytes), 'invalid_input', /transferred/)
  await fails(scanner.scan(bytes.buffer), 'invalid_input', /transferred/)
  const part = new Uint8Array(eicar)
  async function* parts() {
    yield Buffer.from('before ')
    structuredClone(part, { transfer: [part.buffer] })
    yield part
  }
  await fails(scanner.scan(parts()), 'invalid_input', /transferred/)
  assert.equal((await scanner.scan(new Uint8Array(0))).verdict.status, 'clean')
})

test('a name that is half of a character is a name', async () => {
  const report = await scanner.scan(eicar, { name: '\u{1f4c4}'.slice(0, 1) })
  assert.equal(report.verdict.status, 'infected')
})

test('a part of a stream is let go once it was taken in', async () => {
  v8.setFlagsFromString('--expose-gc')
  const gc = vm.runInNewContext('gc')
  let first
  let kept
  async function* parts() {
    for (let number = 0; number < 40; number++) {
      const part = filler(16 << 10, number + 1)
      if (number === 0) first = new WeakRef(part)
      yield part
      if (number === 30) {
        await new Promise((resolve) => setTimeout(resolve, 20))
        gc()
        kept = first.deref()
      }
    }
  }
  assert.equal((await scanner.scan(parts())).size, 40 * (16 << 10))
  assert.equal(kept, undefined)
})
