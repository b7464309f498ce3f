// Which workflow follows what, when a handler is called again, and how a call of a pipeline tells of itself and ends.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough, Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { call, moveTo, Pipeline, Scanner, workflow } from 'scan-pipeline'
import { definitions, filler, folder, samples, zip } from './support.mjs'

let scanner
before(async () => { scanner = await Scanner.open({ definitions, detect: ['ssn', 'credit_card'] }) })
after(() => scanner.close())

async function place(says, body) {
  const dir = folder()
  const files = { ...Object.fromEntries(Object.values(samples).map(({ name, bytes }) => [name, bytes])) }
  files['people.txt'] = Buffer.from('Her social security number is 219-09-9999, said the letter. SSN: 536-90-4399')
  files['cut.zip'] = zip({ 'a.txt': filler(5000) }).subarray(0, 3000)
  for (const name of ['in', 'locked', 'private', 'clean']) mkdirSync(join(dir, name))
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(dir, 'in', name), bytes)
  const buckets = Object.fromEntries(['in', 'locked', 'private', 'clean'].map((name) => [name, `file://${join(dir, name)}`]))
  const pipeline = says(new Pipeline({ scanner, store: `sqlite://${join(dir, 'state.db')}`, limits: { settle: 0 }, buckets }))
  const list = (name) => readdirSync(join(dir, name)).filter((file) => !file.startsWith('.')).sort()
  try {
    await body(await pipeline.open(), { dir, list })
  } finally {
    await pipeline.close()
  }
}

test('onReason takes what is unscannable for that reason alone', () => place((pipeline) => pipeline
  .on('unscannable', 'leave').onReason('encrypted', workflow('lock').then(moveTo('locked'))), async (pipeline, { list }) => {
  const ended = {}
  for await (const { status, processed } of pipeline.run('in')) {
    assert.equal(status, 'done')
    ended[processed.task.object.key] = processed.task
  }
  assert.deepEqual(list('locked'), [samples.encrypted.name])
  assert.equal(ended[samples.encrypted.name].workflow, 'lock')
  assert.equal(ended['cut.zip'].report.verdict.status, 'unscannable')
  assert.equal(ended['cut.zip'].workflow, 'leave')
  assert.ok(list('in').includes('cut.zip') && list('in').includes(samples.infected.name))
}))

test('onFindings takes what is clean and has sensitive data in it; the first rule that matches counts', () => place((pipeline) => pipeline
  .on('clean', workflow('release').then(moveTo('clean')))
  .onFindings({ detectors: ['credit_card'] }, workflow('cards').then(moveTo('clean')))
  .onFindings({ detectors: ['ssn'], minConfidence: 0.1 }, workflow('people').then(moveTo('private')))
  .onFindings({ detectors: ['ssn'] }, 'leave'), async (pipeline, { list }) => {
  const { task } = await pipeline.process({ bucket: 'in', key: 'people.txt' })
  assert.equal(task.report.verdict.status, 'clean')
  assert.equal(task.report.findings[0].detector, 'ssn')
  assert.equal(task.workflow, 'people')
  assert.equal((await pipeline.process({ bucket: 'in', key: samples.clean.name })).task.workflow, 'release')
  assert.deepEqual([list('private'), list('clean')], [['people.txt'], [samples.clean.name]])
}))

test('a handler is not called again before the time that it asks for', async () => {
  const calls = []
  const handler = async () => {
    calls.push(Date.now())
    if (calls.length === 1) throw Object.assign(new Error('come back later'), { retryAfter: 1500 })
  }
  await place((pipeline) => pipeline.on('clean', workflow('w').then(call('busy', handler, { retry: { attempts: 3, initial: 1, factor: 1, cap: 1 } }))), async (pipeline) => {
    let { task } = await pipeline.process({ bucket: 'in', key: samples.clean.name })
    for (let i = 0; i < 400 && task.state === 'handling'; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      await pipeline.resume()
      task = await pipeline.task(task.id)
    }
    assert.equal(task.state, 'done')
    assert.equal(calls.length, 2)
    assert.ok(calls[1] - calls[0] >= 1400, `${calls[1] - calls[0]} ms`)
  })
})

test('progress of an upload is told, the end included', () => place((pipeline) => pipeline, async (pipeline) => {
  const seen = []
  const parts = async function* () {
    for (let n = 1; n <= 5; n++) {
      yield filler(100_000, n)
      await new Promise((resolve) => setTimeout(resolve, 120))
    }
  }
  await pipeline.processUpload(Readable.from(parts()), { size: 500_000, onProgress: (progress) => seen.push(progress) })
  assert.deepEqual(seen.at(-1), { stage: 'done', bytes: 500_000, total: 500_000 })
  assert.ok(seen.some(({ stage, bytes }) => stage === 'reading' && bytes > 0 && bytes < 500_000), JSON.stringify(seen))
  for (const [index, { bytes }] of seen.entries()) assert.ok(index === 0 || bytes >= seen[index - 1].bytes)
  const onProgress = () => { throw new Error('mine') }
  await assert.rejects(pipeline.processUpload(new PassThrough(), { onProgress }), { message: 'mine' })
}))

test('an aborted process or processUpload throws the reason, and what was begun goes on', async () => {
  const reason = { any: 'thing' }
  let calls = 0
  let abort
  const handler = async () => {
    if (calls++ > 0) return
    abort()
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  await place((pipeline) => pipeline.on('clean', workflow('w').then(call('slow', handler), moveTo('clean'))), async (pipeline, { dir }) => {
    const object = { bucket: 'in', key: samples.clean.name }
    await assert.rejects(pipeline.process(object, { signal: AbortSignal.abort(reason) }), (error) => error === reason)
    await assert.rejects(pipeline.processUpload(samples.clean.bytes, { signal: AbortSignal.abort(reason) }), (error) => error === reason)
    assert.equal(calls, 0)
    const controller = new AbortController()
    abort = () => controller.abort(reason)
    await assert.rejects(pipeline.process(object, { signal: controller.signal }), (error) => error === reason)
    assert.equal(calls, 1)
    // A workflow that has begun goes on without its caller.
    const released = join(dir, 'clean', samples.clean.name)
    for (let i = 0; i < 500 && !existsSync(released); i++) await new Promise((resolve) => setTimeout(resolve, 20))
    assert.ok(existsSync(released))
    assert.equal(calls, 1)
  })
})
