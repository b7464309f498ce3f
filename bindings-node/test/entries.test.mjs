// Every public entry with arguments that cannot be used: always a ScanPipelineError with a code, never a bare TypeError.
import assert from 'node:assert/strict'
import { createReadStream, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { call, onLog, Pipeline, Scanner, ScanPipelineError, workflow } from 'scan-pipeline'
import { scanPart } from 'scan-pipeline/fastify'
import { scanWeb } from 'scan-pipeline/web'
import { definitions, eicar, filler, folder, samples } from './support.mjs'

const dir = folder()
let scanner
let pipeline
let upload
before(async () => {
  scanner = await Scanner.open({ definitions })
  pipeline = await new Pipeline({ scanner, buckets: { any: 'memory://any' }, store: `sqlite://${join(dir, 'a.db')}` }).open()
  upload = await scanner.scanUpload(samples.clean.bytes)
})
after(async () => {
  await pipeline.close()
  await scanner.close()
})

const fails = async (code, what, make) => {
  await assert.rejects(async () => make(), (error) => {
    assert.ok(error instanceof ScanPipelineError, `${what}: ${error?.stack ?? error}`)
    assert.equal(error.code, code, `${what}: ${error.message}`)
    return true
  })
}

test('arguments of the wrong kind are refused with a code', async () => {
  const never = AbortSignal.abort
  const circle = {}
  circle.circle = circle
  const open = (settings) => new Pipeline({ scanner, store: 'sqlite://never.db', buckets: { any: 'memory://any' }, ...settings })
  const wrong = {
    invalid_input: {
      'scan(x, null)': () => scanner.scan(eicar, null),
      'scan(x, 7)': () => scanner.scan(eicar, 7),
      'scanUpload(x, null)': () => scanner.scanUpload(eicar, null),
      'scan({ path: a URL of http })': () => scanner.scan({ path: new URL('http://a/b') }),
      'saveTo(7)': () => upload.content.saveTo(7),
      'saveTo(undefined)': () => upload.content.saveTo(),
      'saveTo(a URL of http)': () => upload.content.saveTo(new URL('http://a/b')),
      'saveTo(with a zero)': () => upload.content.saveTo('a\0b'),
      'work()': () => pipeline.work(),
      'work(null)': () => pipeline.work(null),
      'work({})': () => pipeline.work({}),
      'work({ signal: 7 })': () => pipeline.work({ signal: 7 }),
      'task(7)': () => pipeline.task(7),
      'task()': () => pipeline.task(),
      'run(7)': () => pipeline.run(7).next(),
      'run()': () => pipeline.run().next(),
      'run(a, null)': () => pipeline.run('memory://a', null).next(),
      'run(a, { signal: never })': () => pipeline.run('memory://a', { signal: never }).next(),
      'process(x, null)': () => pipeline.process({ bucket: 'a', key: 'b' }, null),
      'process(x, { signal: 7 })': () => pipeline.process({ bucket: 'a', key: 'b' }, { signal: 7 }),
      'process(7)': () => pipeline.process(7),
      'enqueue(null)': () => pipeline.enqueue(null),
      'processUpload(x, null)': () => pipeline.processUpload(eicar, null),
      'processUpload(x, { timeout })': () => pipeline.processUpload(eicar, { timeout: 'soon' }),
      'processUpload(x, { id: 7 })': () => pipeline.processUpload(eicar, { id: 7 }),
      'processUpload(7)': () => pipeline.processUpload(7),
      'scanPart(undefined)': () => scanPart(scanner, undefined),
      'scanWeb(undefined)': () => scanWeb(scanner, undefined),
      'scanWeb(a text)': () => scanWeb(scanner, 'text'),
      'onLog(7)': () => onLog(7),
      'onLog(f, a level that is none)': () => onLog(() => {}, { level: 'loud' }),
    },
    config: {
      'Scanner.open(null)': () => Scanner.open(null),
      'Scanner.open(7)': () => Scanner.open(7),
      'Scanner.open({ threads: 1n })': () => Scanner.open({ definitions, threads: 1n }),
      'Scanner.open(a circle)': () => Scanner.open({ definitions, limits: circle }),
      'Scanner.double(null)': () => Scanner.double(null),
      'Scanner.double({ infected: 7 })': () => Scanner.double({ infected: 7 }),
      'new Pipeline()': () => new Pipeline(),
      'new Pipeline(null)': () => new Pipeline(null),
      'new Pipeline({ store })': () => new Pipeline({ store: 'sqlite://never.db' }),
      'scanner: {}': () => open({ scanner: {} }),
      'store: 7': () => open({ store: 7 }),
      'buckets: 7': () => open({ buckets: 7 }),
      'buckets: { a: null }': () => open({ buckets: { a: null } }).open(),
      'buckets: { a: 7 } and an address': () => open({ buckets: { a: 7 } }).on('clean', workflow('w').then({ do: 'relocate', to: 'memory://b' })).open(),
      'limits: a circle': () => open({ limits: circle }).open(),
      'limits: 7': () => open({ limits: 7 }).open(),
      'queue: 7': () => open({ queue: 7 }).open(),
      'on(7)': () => open().on(7, 'leave'),
      'onReason(7)': () => open().onReason(7, 'leave'),
      'onFindings(null)': () => open().onFindings(null, 'leave'),
      'handler(Symbol)': () => open().handler(Symbol('s'), () => {}),
      'call(7)': () => call(7),
      'workflow().parallel(null)': () => workflow('a').parallel(null),
    },
  }
  for (const [code, calls] of Object.entries(wrong)) {
    for (const [what, make] of Object.entries(calls)) await fails(code, what, make)
  }
})

test('an aborted call throws the reason of its signal, whatever has failed by it', async () => {
  const reason = { any: 'thing' }
  writeFileSync(join(dir, 'large'), filler(8 << 20))
  const calls = {
    // One signal for the source and the call: the source fails with an AbortError of its own.
    'a file stream': (signal) => scanner.scan(createReadStream(join(dir, 'large'), { signal, highWaterMark: 100 }), { signal }),
    'a stream that is destroyed by it': (signal) => {
      const stream = new PassThrough()
      stream.write(eicar)
      signal.addEventListener('abort', () => stream.destroy(new Error('torn')))
      return scanner.scan(stream, { signal })
    },
    'a web stream that fails by it': (signal) => scanner.scan(new ReadableStream({
      start: (controller) => signal.addEventListener('abort', () => controller.error(new Error('torn'))),
    }), { signal }),
    scanUpload: (signal) => scanner.scanUpload(new PassThrough(), { signal }),
    processUpload: (signal) => pipeline.processUpload(new PassThrough(), { signal }),
    'processUpload whose source fails by it': (signal) => pipeline.processUpload(Readable.from((async function* () {
      yield eicar
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('torn'))))
    })()), { signal }),
  }
  for (const [what, call] of Object.entries(calls)) {
    const controller = new AbortController()
    const answer = call(controller.signal)
    setImmediate(() => controller.abort(reason))
    await assert.rejects(answer, (error) => {
      assert.equal(error, reason, `${what}: ${error?.stack ?? error}`)
      return true
    })
  }
})
