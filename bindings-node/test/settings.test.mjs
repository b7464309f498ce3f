// What settings mean: which engine is shared, what a pipeline takes from its scanner, times and limits, and the log.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { call, notify, onLog, Pipeline, Scanner, workflow } from 'scan-pipeline'
import { definitions, eicar, filler, folder, run, samples } from './support.mjs'

const dir = folder()
let stores = 0
const store = () => `sqlite://${join(dir, `${stores++}.db`)}`

/** Definitions of one test, to which it adds. */
function own() {
  const made = folder()
  writeFileSync(join(made, 'a.ndb'), readFileSync(join(definitions, 'test.ndb'), 'utf8'))
  let number = 0
  return { made, add: () => writeFileSync(join(made, `more${number}.ndb`), `Test.Needle:0:*:${Buffer.from(`needle ${number++}`).toString('hex')}\n`) }
}

test('scanners that differ in how they take contents in share one engine', async () => {
  const { made, add } = own()
  const scanners = await Promise.all([{ maxSize: '1MB' }, { maxSize: '2MB', memory: '64MB' }, {}].map((spool) => Scanner.open({ definitions: made, spool })))
  const other = await Scanner.open({ definitions: made, threads: 1 })
  const before = scanners.map(({ info }) => info.generation)
  assert.equal(new Set(before).size, 1)
  // What one loads all have, unless it is another engine.
  add()
  assert.equal(await scanners[0].refreshDefinitions(), true)
  for (const { info } of scanners) assert.notEqual(info.generation, before[0])
  assert.equal(other.info.generation, before[0])
  await assert.rejects(scanners[0].scan(filler((1 << 20) + 1)), { code: 'too_large' })
  assert.equal((await scanners[1].scan(filler((1 << 20) + 1))).verdict.status, 'clean')
  // The engine lives as long as one of them.
  await scanners[0].close()
  await scanners[1].close()
  assert.equal((await scanners[2].scan(eicar)).verdict.status, 'infected')
  await scanners[2].close()
  await other.close()
})

test('scanners of worker threads share the engine that another thread has loaded', async () => {
  const { made, add } = own()
  const scanner = await Scanner.open({ definitions: made })
  const before = scanner.info.generation
  const code = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { Scanner } = require('scan-pipeline')
    Scanner.open({ definitions: workerData, spool: { maxSize: '7MB' } }).then((scanner) => {
      parentPort.postMessage('open')
      parentPort.on('message', () => parentPort.postMessage(scanner.info.generation))
    })`
  const workers = Array.from({ length: 3 }, () => new Worker(code, { eval: true, workerData: made }))
  await Promise.all(workers.map((worker) => once(worker, 'message')))
  add()
  assert.equal(await scanner.refreshDefinitions(), true)
  assert.notEqual(scanner.info.generation, before)
  for (const worker of workers) {
    worker.postMessage('and now')
    assert.deepEqual(await once(worker, 'message'), [scanner.info.generation])
    await worker.terminate()
  }
  await scanner.close()
})

test('the same folder is the same engine, wherever the process is and however it is written', async () => {
  const { made, add } = own()
  const { code, stdout, stderr } = await run(`
    import { Scanner } from 'scan-pipeline'
    import { writeFileSync } from 'node:fs'
    import { basename, dirname } from 'node:path'
    const folder = ${JSON.stringify(made)}
    const first = await Scanner.open({ definitions: folder })
    process.chdir(dirname(folder))
    const second = await Scanner.open({ definitions: basename(folder) })
    process.chdir('/')
    const third = await Scanner.open({ definitions: folder })
    writeFileSync(folder + '/b.ndb', 'Test.B:0:*:${Buffer.from('another needle').toString('hex')}\\n')
    await first.refreshDefinitions()
    console.log(new Set([first, second, third].map(({ info }) => info.generation)).size)
    process.exit()`)
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '1\n', stderr: '' })
  add()
})

test('a pipeline takes contents in as its scanner does', async () => {
  const temp = folder()
  const scanner = await Scanner.open({ definitions, tempDir: temp, spool: { maxSize: 200_000, memoryThreshold: 1000, stallTimeout: 300, memory: '8MB' } })
  const pipeline = await new Pipeline({ scanner, buckets: { any: 'memory://any' }, store: store() }).open()
  await assert.rejects(pipeline.processUpload(Readable.from([filler(200_001)])), { code: 'too_large' })
  await assert.rejects(pipeline.processUpload(new PassThrough()), { code: 'timeout' })
  const seen = []
  const source = async function* () {
    yield filler(5000)
    // Over the threshold it lies in the scanner's folder.
    for (let i = 0; i < 100 && !seen.some((name) => name.startsWith('scan-pipeline-spool-')); i++) {
      await new Promise((resolve) => setTimeout(resolve, 2))
      seen.push(...readdirSync(temp))
    }
  }
  const upload = await pipeline.processUpload(source())
  assert.equal(upload.isAdmitted, true)
  assert.ok(seen.some((name) => name.startsWith('scan-pipeline-spool-')), seen.join())
  upload.dispose()
  // In memory it takes of the scanner's memory.
  const before = (await scanner.health()).memory.budgetFreeBytes
  const small = await pipeline.processUpload(Readable.from([filler(900)]))
  assert.ok((await scanner.health()).memory.budgetFreeBytes < before)
  small.dispose()
  assert.equal((await scanner.health()).memory.budgetFreeBytes, before)
  await pipeline.close()
  // What it says itself counts.
  const other = await new Pipeline({ scanner, buckets: { any: 'memory://any' }, store: store(), limits: { maxSize: 300_000, memory: '2MB' } }).open()
  const much = await other.processUpload(Readable.from([filler(200_001)]))
  assert.equal(much.isAdmitted, true)
  assert.equal((await scanner.health()).memory.budgetFreeBytes, before)
  await other.close()
  await scanner.close()
})

test('processUpload ends after its timeout', async () => {
  const scanner = await Scanner.open({ definitions })
  const pipeline = await new Pipeline({ scanner, buckets: { any: 'memory://any' }, store: store() })
    .on('infected', workflow('stuck').then(call('stuck', () => new Promise(() => {}), { timeout: '2s', retry: { attempts: 1 } }))).open()
  await assert.rejects(pipeline.processUpload(new PassThrough(), { timeout: 50 }), { code: 'timeout' })
  await assert.rejects(pipeline.processUpload(eicar, { timeout: 500 }), { code: 'timeout' })
  assert.equal((await pipeline.processUpload(samples.clean.bytes, { timeout: 60_000 })).isAdmitted, true)
  await pipeline.close()
  await scanner.close()
})

test('a file is an upload, as it is now', async () => {
  const scanner = await Scanner.open({ definitions, spool: { maxSize: '1MB' } })
  const pipeline = await new Pipeline({ scanner, buckets: { any: 'memory://any' }, store: store() }).open()
  for (const { name, bytes, status } of Object.values(samples)) {
    writeFileSync(join(dir, name), bytes)
    const progress = []
    const upload = await pipeline.processUpload({ path: join(dir, name) }, { onProgress: (one) => progress.push(one) })
    assert.equal(upload.report.verdict.status, status)
    assert.equal(upload.processed.task.object.key, name)
    assert.deepEqual(progress.at(-1), { stage: 'done', bytes: bytes.length })
    if (status === 'clean') assert.deepEqual(await upload.content.bytes(), bytes)
    else assert.throws(() => upload.content, { code: status })
    upload.dispose()
  }
  mkdirSync(join(dir, 'folder'))
  writeFileSync(join(dir, 'much'), filler((1 << 20) + 1))
  for (const [name, code] of [['folder', 'invalid_input'], ['nobody', 'gone'], ['much', 'too_large']]) {
    await assert.rejects(pipeline.processUpload({ path: join(dir, name) }), { code })
  }
  await pipeline.close()
  await scanner.close()
})

test('the log tells an application what went wrong, and nobody who does not ask', async () => {
  const script = (hook) => `
    import { call, notify, onLog, Pipeline, Scanner, workflow } from 'scan-pipeline'
    import { samples } from './support.mjs'
    const records = []
    ${hook}
    const scanner = await Scanner.open({ definitions: ${JSON.stringify(definitions)} })
    const pipeline = new Pipeline({ scanner, buckets: { any: 'memory://any' }, store: ${JSON.stringify(store())}, limits: { memory: '1MB', memoryThreshold: '2MB' } })
      .on('clean', workflow('w').then(call('bad', () => { throw Object.assign(new Error('refused'), { retryable: false }) })))
    const { processed } = await pipeline.processUpload(samples.clean.bytes, { name: 'a.txt' })
    await new Promise((resolve) => setTimeout(resolve, 50))
    console.log(JSON.stringify({ state: processed.task.state, records }))
    await pipeline.close()
    await scanner.close()`
  const told = async (hook) => {
    const { code, stdout, stderr } = await run(script(hook))
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
    return JSON.parse(stdout)
  }
  const { state, records } = await told('onLog((record) => records.push(record))')
  assert.equal(state, 'dead')
  assert.ok(records.every(({ level, target, message }) => ['warn', 'error'].includes(level) && target !== '' && message !== ''), JSON.stringify(records))
  assert.ok(records.some(({ message }) => /memory_threshold is above memory/.test(message)), JSON.stringify(records))
  assert.ok(records.some(({ target, message }) => target === 'scan_pipeline::pipeline::follow' && /failed for good/.test(message)), JSON.stringify(records))
  assert.deepEqual((await told('')).records, [])
  assert.deepEqual((await told('onLog((record) => records.push(record))()')).records, [])
  assert.deepEqual((await told('onLog((record) => records.push(record), { level: "error" })')).records.filter(({ level }) => level !== 'error'), [])
  // What a hook throws is nobody's failure.
  assert.equal((await told('onLog(() => { throw new Error("mine") }); onLog(async () => { throw new Error("mine") })')).state, 'dead')
})

test('two hooks hear the same, each from its level on, until they are stopped', async () => {
  const scanner = await Scanner.double()
  const nowhere = notify('http://127.0.0.1:1/', { secrets: `whsec_${filler(32).toString('base64')}`, allowHttp: true, allowPrivateAddresses: true, retry: { attempts: 1 } })
  const pipeline = await new Pipeline({ scanner, buckets: { any: 'memory://any' }, store: store() }).on('clean', workflow('tell').then(nowhere)).open()
  const [all, some] = [[], []]
  const stops = [onLog((record) => all.push(record), { level: 'trace' }), onLog((record) => some.push(record))]
  const fail = async () => {
    assert.equal((await pipeline.processUpload(Buffer.from('all is well'))).processed.task.state, 'dead')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  await fail()
  // Definitions that nobody else here has loaded with these settings: libclamav says what it does.
  await (await Scanner.open({ definitions, limits: { maxFiles: 9_123 } })).close()
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.ok(some.length > 0 && all.some(({ level }) => level === 'info'), JSON.stringify(all))
  // Those of other libraries may show what a request holds.
  assert.ok(all.every(({ target }) => /^(scan_pipeline|clamav_core|libclamav)/.test(target)), JSON.stringify(all))
  assert.deepEqual(all.filter(({ level }) => level === 'warn' || level === 'error'), some)
  assert.ok(all.every(({ leftOut }) => leftOut === 0))
  const { length } = all
  stops[0]()
  await fail()
  assert.equal(all.length, length)
  const heard = some.length
  assert.ok(heard > 1)
  stops[1]()
  await fail()
  assert.equal(some.length, heard)
  await pipeline.close()
  await scanner.close()
})

test('a worker thread that ends takes its hook along', async () => {
  const code = `
    const { parentPort } = require('node:worker_threads')
    require('scan-pipeline').onLog(() => {}, { level: 'trace' })
    parentPort.postMessage('listening')`
  const worker = new Worker(code, { eval: true })
  const ended = once(worker, 'exit')
  await once(worker, 'message')
  // The hook keeps no thread.
  await ended
  const scanner = await Scanner.open({ definitions })
  assert.equal((await scanner.scan(eicar)).verdict.status, 'infected')
  await scanner.close()
})
