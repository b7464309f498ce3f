import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { call, deleteObject, moveTo, notify, Pipeline, record, Scanner, ScanPipelineError, tag, workflow } from 'scan-pipeline'
import { definitions, filler, folder, run, samples } from './support.mjs'

let scanner
before(async () => { scanner = await Scanner.open({ definitions }) })
after(() => scanner.close())

/** Folders with the samples in quarantine, and settings for them. */
function place(more = {}) {
  const dir = folder()
  for (const name of ['quarantine', 'clean', 'infected']) mkdirSync(join(dir, name))
  for (const { name, bytes } of Object.values(samples)) writeFileSync(join(dir, 'quarantine', name), bytes)
  const url = (name) => `file://${join(dir, name)}`
  const settings = {
    scanner, store: `sqlite://${join(dir, 'state.db')}`, limits: { settle: 0 },
    buckets: { quarantine: url('quarantine'), clean: url('clean') }, ...more,
  }
  return { dir, url, settings, list: (name) => readdirSync(join(dir, name)).filter((file) => !file.startsWith('.')).sort() }
}

async function opened(pipeline, body) {
  try { return await body(await pipeline.open()) } finally { await pipeline.close() }
}

test('a prefix is processed: each object once, and what follows is journalled', async () => {
  const { url, settings, list, dir } = place()
  const seen = []
  const pipeline = () => new Pipeline(settings)
    .on('clean', workflow('release').then(moveTo('clean', { tags: true }), record()))
    .on('infected', workflow('isolate').then(moveTo(url('infected'))).parallel(call('crm', async (result, step) => {
      seen.push({ result, step })
      return { case: 7, bucket_name: 'kept', camelCase: true }
    }), [record({ name: 'note' })]))
    .on('unscannable', 'leave')
  await opened(pipeline(), async (open) => {
    const ended = []
    for await (const progress of open.run('quarantine')) {
      assert.equal(progress.status, 'done', JSON.stringify(progress))
      ended.push(progress.processed)
    }
    assert.deepEqual(ended.map(({ task }) => [task.object.key, task.report.verdict.status, task.state]).sort(), [
      ['holiday.zip', 'infected', 'done'], ['letter.txt', 'clean', 'done'], ['salaries.zip', 'unscannable', 'done'],
    ])
    assert.deepEqual([list('quarantine'), list('clean'), list('infected')], [['salaries.zip'], ['letter.txt'], ['holiday.zip']])
    assert.deepEqual(readFileSync(join(dir, 'clean', 'letter.txt')), samples.clean.bytes)
    assert.equal(seen.length, 1)
    const [{ result, step }] = seen
    assert.equal(result.report.verdict.status, 'infected')
    assert.equal(result.object.key, 'holiday.zip')
    assert.equal(step.object.bucket, url('infected'))
    assert.equal(step.workflow, 'isolate')
    assert.equal(step.step, 'crm')
    assert.equal(step.attempt, 1)
    assert.match(step.idempotencyKey, /^[0-9a-f]{64}$/)
    assert.ok('relocate' in step.outputs)
    const task = await open.task(result.task)
    assert.equal(task.place.place, 'moved')
    const crm = task.steps.find((one) => one.step === 'crm')
    assert.equal(crm.state, 'done')
    assert.deepEqual(crm.output.value, { case: 7, bucket_name: 'kept', camelCase: true })
    assert.equal(await open.task('0'.repeat(64)), null)
    await assert.rejects(open.task('nonsense'), { code: 'invalid_input' })
  })
  await opened(pipeline(), async (open) => {
    for await (const progress of open.run('quarantine')) assert.equal(progress.processed.repeated, true)
    assert.equal(seen.length, 1, 'nothing was done twice')
  })
})

test('one object is processed once, and one that is not there is gone', async () => {
  const { settings, list } = place()
  await opened(new Pipeline(settings).on('clean', workflow('release').then(moveTo('clean'))).on('infected', workflow('away').then(deleteObject())), async (open) => {
    const [first, second] = [await open.process({ bucket: 'quarantine', key: 'holiday.zip' }), await open.process({ bucket: 'quarantine', key: 'letter.txt' })]
    assert.equal(first.task.place.place, 'deleted')
    assert.equal(second.task.place.object.key, 'letter.txt')
    assert.deepEqual(list('quarantine'), ['salaries.zip'])
    await assert.rejects(open.process({ bucket: 'quarantine', key: 'nobody' }), { code: 'gone', retryable: false })
    await assert.rejects(open.process({ bucket: 'elsewhere', key: 'a' }), { code: 'config' })
    for (const wrong of [undefined, {}, { bucket: 'quarantine' }, { bucket: 'quarantine', key: 7 }]) {
      await assert.rejects(open.process(wrong), { code: 'invalid_input' })
    }
  })
})

describe('handlers that fail', () => {
  class CrmDown extends Error {}
  class Refused extends Error {
    constructor(message) { super(message); this.name = 'Refused'; this.retryable = false }
  }
  const retry = { attempts: 3, initial: 10, factor: 1, cap: 10 }

  async function failing(handler, options = {}) {
    const { settings } = place()
    return opened(new Pipeline(settings).on('clean', workflow('w').then(call('crm', handler, { retry, ...options }))), async (open) => {
      let done = await open.process({ bucket: 'quarantine', key: 'letter.txt' })
      for (let i = 0; i < 100 && done.task.state === 'handling'; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20))
        await open.resume()
        done = { task: await open.task(done.task.id) }
      }
      return done.task
    })
  }

  test('keep their class and message, and are tried again with the same key', async () => {
    const keys = []
    const task = await failing(async (_result, step) => {
      keys.push(step.idempotencyKey)
      if (step.attempt < 3) throw new CrmDown('no route to the CRM')
      return { attempt: step.attempt }
    })
    assert.equal(task.state, 'done')
    assert.equal(keys.length, 3)
    assert.equal(new Set(keys).size, 1)
    assert.deepEqual(task.steps[0].output.value, { attempt: 3 })
  })

  test('for good are dead letters with their words', async () => {
    const task = await failing(() => { throw new CrmDown('no route to the CRM') })
    assert.equal(task.state, 'dead')
    assert.match(task.steps[0].error, /CrmDown: no route to the CRM/)
    assert.equal(task.steps[0].attempt, 3)
  })

  test('with retryable: false are tried once', async () => {
    const task = await failing(async () => { throw new Refused('no such customer') })
    assert.equal(task.state, 'dead')
    assert.equal(task.steps[0].attempt, 1)
    assert.match(task.steps[0].error, /Refused: no such customer/)
  })

  test('throw what is no error at all', async () => {
    for (const thrown of ['a text', undefined, null, { a: 1 }, Symbol('s'), Object.create(null)]) {
      const task = await failing(async () => { throw thrown }, { retry: { attempts: 1 } })
      assert.equal(task.state, 'dead')
      assert.match(task.steps[0].error, /thrown:/)
    }
  })

  test('answer what JSON cannot hold', async () => {
    const circle = {}
    circle.circle = circle
    for (const value of [circle, { n: 1n }, () => {}, Symbol('s')]) {
      const task = await failing(async () => value)
      assert.equal(task.state, 'dead')
      assert.equal(task.steps[0].attempt, 1, 'it would answer the same again')
      assert.match(task.steps[0].error, /cannot be kept as JSON/)
    }
    for (const value of [undefined, null]) {
      const task = await failing(async () => value)
      assert.equal(task.state, 'done')
    }
  })

  test('never finish', async () => {
    const task = await failing(() => new Promise(() => {}), { timeout: '1s', retry: { attempts: 1 } })
    assert.equal(task.state, 'dead')
    assert.match(task.steps[0].error, /1s|time/)
  })
})

test('an upload goes through, and its content is there when it is clean', async () => {
  const { settings } = place()
  const noted = []
  await opened(new Pipeline(settings)
    .on('clean', workflow('c').then(call('note', async (result, step) => { noted.push([result.report.verdict.status, step.object]) })))
    .on('infected', workflow('i').then(call('note'))), async (open) => {
    const { name, bytes } = samples.clean
    const upload = await open.processUpload(Readable.from([bytes]), { name, id: 'upload-1' })
    assert.equal(upload.isAdmitted, true)
    assert.deepEqual(await upload.content.bytes(), bytes)
    assert.equal(upload.processed.task.state, 'done')
    const again = await open.processUpload(bytes, { name, id: 'upload-1' })
    assert.equal(again.processed.repeated, true)
    await assert.rejects(open.processUpload(Buffer.from('other bytes altogether'), { name, id: 'upload-1' }), { code: 'invalid_input' })
    for (const sample of [samples.infected, samples.encrypted]) {
      const refused = await open.processUpload(new Blob([sample.bytes]), { name: sample.name })
      assert.equal(refused.isAdmitted, false)
      assert.throws(() => refused.content, { code: sample.status })
    }
    assert.deepEqual(noted, [['clean', null], ['infected', null]])
    const broken = new Error('the sender has gone')
    await assert.rejects(open.processUpload((async function* () { yield bytes; throw broken })()), (error) => error === broken)
  })
})

test('a webhook tells others', async () => {
  const got = []
  const server = createServer(async (request, response) => {
    got.push({ headers: request.headers, body: JSON.parse(Buffer.concat(await request.toArray())) })
    response.end()
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { settings } = place()
  const secret = `whsec_${Buffer.from(filler(32)).toString('base64')}`
  await opened(new Pipeline(settings).on('infected', workflow('tell').then(tag(), notify(`http://127.0.0.1:${server.address().port}/hook`, {
    secrets: secret, headers: { 'X-Our-Name': 'kept' }, allowHttp: true, allowPrivateAddresses: true,
  }))), async (open) => {
    const { task } = await open.process({ bucket: 'quarantine', key: 'holiday.zip' })
    assert.equal(task.state, 'done', JSON.stringify(task.steps))
    assert.equal(got.length, 1)
    assert.equal(got[0].headers['x-our-name'], 'kept')
    assert.ok(got[0].headers['webhook-signature'])
    assert.ok(!JSON.stringify(task).includes(secret))
  })
  server.close()
})

test('a worker takes what was put into the queue, and stops when it is told', async () => {
  const { settings, list, dir } = place()
  const pipeline = new Pipeline({ ...settings, queue: `sqlite://${join(dir, 'queue.db')}`, worker: { wait: 200, drain: '5s' } })
    .on('clean', workflow('release').then(moveTo('clean')))
  await opened(pipeline, async (open) => {
    await open.enqueue({ bucket: 'quarantine', key: 'letter.txt' })
    const controller = new AbortController()
    const working = open.work({ signal: controller.signal })
    for (let i = 0; i < 500 && list('clean').length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 20))
    controller.abort()
    const counts = await working
    assert.deepEqual(list('clean'), ['letter.txt'])
    assert.deepEqual(counts, { done: 1, retried: 0, dead: 0, abandoned: 0 })
  })
})

test('a run that is left in the middle leaves the rest where it is', async () => {
  const { settings } = place({ limits: { settle: 0, concurrency: 1 } })
  await opened(new Pipeline(settings), async (open) => {
    for await (const progress of open.run('quarantine')) {
      assert.equal(progress.status, 'done')
      break
    }
    let count = 0
    for await (const progress of open.run('quarantine')) count += progress.status === 'done' ? 1 : 0
    assert.equal(count, 3)
  })
})

test('mistakes are named before there is work, all of them', async () => {
  const { settings } = place()
  const wrong = new Pipeline({ ...settings, buckets: { ...settings.buckets, odd: { url: 'memory://x', wacth: true } } })
    .on('clean', workflow('a').then(moveTo('claen'), call('nobody')))
  await assert.rejects(wrong.open(), (error) => {
    assert.ok(error instanceof ScanPipelineError)
    assert.equal(error.code, 'config')
    for (const words of [/claen/, /did you mean `clean`/, /wacth/, /nobody/]) assert.match(error.message, words)
    return true
  })
  for (const make of [
    () => new Pipeline(settings).on('infectious', 'leave'),
    () => new Pipeline(settings).on('clean', 'release'),
    () => new Pipeline(settings).on('clean', workflow('a').then(tag())).on('infected', workflow('a').then(tag())),
    () => new Pipeline(settings).handler('x', 7),
    () => workflow(''),
    () => workflow('leave'),
    () => workflow('a').then('tag'),
    () => workflow('a').then(null),
    () => call('x', 7),
  ]) assert.throws(make, { code: 'config' })
  await assert.rejects(new Pipeline({ ...settings, sotre: 'x' }).open(), { code: 'config' })
  await assert.rejects((async () => workflow('awaited'))(), /no promise/)
})

test('a pipeline that was closed is of no use', async () => {
  const { settings } = place()
  const pipeline = new Pipeline(settings)
  await pipeline.open()
  assert.throws(() => pipeline.on('clean', 'leave'), { code: 'config' })
  await pipeline.close()
  await pipeline.close()
  await assert.rejects(pipeline.process({ bucket: 'quarantine', key: 'a' }), { code: 'closed' })
  await assert.rejects(pipeline.processUpload(Buffer.from('a')), { code: 'closed' })
  await assert.rejects(pipeline.run('quarantine').next(), { code: 'closed' })
})

test('the double needs no definitions', async () => {
  const double = await Scanner.double({ infected: ['BAD'], unscannable: ['LOCKED'] })
  const { settings, list } = place({ scanner: double })
  writeFileSync(join(settings.buckets.quarantine.slice(7), 'bad.txt'), 'this is BAD')
  await opened(new Pipeline(settings).on('infected', workflow('away').then(deleteObject())), async (open) => {
    const { task } = await open.process({ bucket: 'quarantine', key: 'bad.txt' })
    assert.equal(task.report.verdict.status, 'infected')
    assert.ok(!list('quarantine').includes('bad.txt'))
  })
  assert.equal((await double.scan(Buffer.from('LOCKED'))).verdict.status, 'unscannable')
  assert.equal((await double.scan(Buffer.from('fine'))).verdict.status, 'clean')
  await double.close()
})

test('a process that ends in the middle of a workflow has it finished by the next', async () => {
  const { settings, dir } = place()
  const script = (handler) => `
    import { call, Pipeline, Scanner, workflow } from 'scan-pipeline'
    import { appendFileSync } from 'node:fs'
    const calls = ${JSON.stringify(join(dir, 'calls'))}
    const scanner = await Scanner.open({ definitions: ${JSON.stringify(definitions)} })
    const pipeline = new Pipeline({ ...${JSON.stringify({ ...settings, scanner: undefined, limits: { settle: 0, lease: '1s' } })}, scanner })
      .on('clean', workflow('w').then(call('first', async (_result, step) => { appendFileSync(calls, 'first ' + step.idempotencyKey + '\\n') }),
        call('second', ${handler})))`
  const ends = await run(`${script('() => process.exit(3)')}
    await pipeline.process({ bucket: 'quarantine', key: 'letter.txt' })`)
  assert.equal(ends.code, 3, ends.stderr)
  const { code, stderr } = await run(`${script(`async (_result, step) => { appendFileSync(calls, 'second ' + step.attempt + '\\n') }`)}
    await new Promise((resolve) => setTimeout(resolve, 1200))
    const { tasks } = await pipeline.resume()
    if (tasks[0]?.task.state !== 'done') throw new Error(JSON.stringify(tasks))
    await pipeline.close()
    await scanner.close()`)
  assert.equal(code, 0, stderr)
  const calls = readFileSync(join(dir, 'calls'), 'utf8').trim().split('\n')
  assert.equal(calls.length, 2, calls.join())
  assert.match(calls[0], /^first/)
  assert.equal(calls[1], 'second 2')
  assert.ok(existsSync(join(dir, 'quarantine', 'letter.txt')))
})
