// A pipeline whose store and queue are a real PostgreSQL, by its address.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { call, moveTo, Pipeline, Scanner, ScanPipelineError, workflow } from 'scan-pipeline'
import { definitions, fixtures, folder, samples } from './support.mjs'

let scanner
let server
let database
let missing

before(async () => {
  scanner = await Scanner.open({ definitions })
  const program = join(dirname(fixtures().dir), 'debug', 'examples', 'postgres')
  assert.ok(existsSync(program), `there is no ${program}: scripts/node.sh builds it`)
  // It is gone with its input: with us, even when we are killed.
  server = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(server, 'close')
  const [line] = await Promise.race([once(server.stdout.setEncoding('utf8'), 'data'), ended.then(() => [''])])
  database = line.trim()
  // It has said why, and fails by itself where a server has to be there.
  if (database === '') {
    assert.equal(server.exitCode, 0, 'PostgreSQL did not start')
    missing = 'PostgreSQL is not installed: scripts/setup.sh test'
  } else if (!await isBuiltIn()) {
    missing = 'the addon was built without postgres-tls'
    assert.notEqual(process.env.REQUIRE_SERVICES, '1', missing)
  }
})

/** `npm run build` alone builds what users get by default, which has no PostgreSQL. */
async function isBuiltIn() {
  const pipeline = new Pipeline({ scanner, store: 'postgres://nobody@127.0.0.1/none' })
  // All mistakes are told at once, and that there is no bucket is one.
  const { message } = await pipeline.open().catch((error) => error)
  return !message.includes('this build has no PostgreSQL')
}

after(async () => {
  if (server?.exitCode === null) {
    server.stdin.end()
    assert.deepEqual(await once(server, 'close'), [0, null])
  }
  await scanner.close()
})

/** A test that has the address of a database. */
function tested(name, body) {
  test(name, (t) => missing === undefined ? body(t) : t.skip(missing))
}

/** Folders with the samples in quarantine, and pipelines that move them. */
function place() {
  const dir = folder()
  const names = ['quarantine', 'clean', 'infected']
  for (const name of names) mkdirSync(join(dir, name))
  for (const { name, bytes } of Object.values(samples)) writeFileSync(join(dir, 'quarantine', name), bytes)
  const buckets = Object.fromEntries(names.map((name) => [name, `file://${join(dir, name)}`]))
  const told = []
  const tell = call('tell', async (result) => { told.push(result.object.key) })
  const made = (more = {}) => new Pipeline({ scanner, store: database, buckets, limits: { settle: 0 }, worker: { wait: 200 }, ...more })
    .on('clean', workflow('release').then(tell, moveTo('clean')))
    .on('infected', workflow('isolate').then(tell, moveTo('infected')))
    .on('unscannable', workflow('stay').then(tell))
  const list = () => names.map((name) => readdirSync(join(dir, name)).filter((file) => !file.startsWith('.')))
  return { dir, buckets, told, made, list }
}

const moved = [['salaries.zip'], ['letter.txt'], ['holiday.zip']]

/** What was moved is not there any more, and what stayed is through. */
async function onceMore(pipeline, stayed) {
  for (const key of ['letter.txt', 'holiday.zip']) {
    await assert.rejects(pipeline.process({ bucket: 'quarantine', key }), { code: 'gone', retryable: false })
  }
  const again = await pipeline.process({ bucket: 'quarantine', key: 'salaries.zip' })
  assert.deepEqual([again.repeated, again.task.id, again.task.state], [true, stayed.id, 'done'])
}

tested('objects go their way once, and another pipeline knows it', async () => {
  const { dir, buckets, told, made, list } = place()
  const [first, second] = [made(), made()]
  try {
    const tasks = []
    for (const { name, status } of Object.values(samples)) {
      const { task, repeated } = await first.process({ bucket: 'quarantine', key: name })
      assert.deepEqual([task.state, repeated, task.report.verdict.status], ['done', false, status], JSON.stringify(task))
      tasks.push(task)
    }
    assert.deepEqual(tasks.map(({ place: { place, object } }) => [place, object?.bucket, object?.key]), [
      ['moved', buckets.clean, 'letter.txt'], ['moved', buckets.infected, 'holiday.zip'], ['here', undefined, undefined],
    ])
    assert.deepEqual(list(), moved)
    assert.deepEqual(readFileSync(join(dir, 'clean', 'letter.txt')), samples.clean.bytes)
    assert.deepEqual(readFileSync(join(dir, 'infected', 'holiday.zip')), samples.infected.bytes)
    await onceMore(first, tasks[2])
    // As on another machine: it has only the database to know it from.
    for (const task of tasks) assert.deepEqual(await second.task(task.id), task)
    await onceMore(second, tasks[2])
    assert.deepEqual(await second.resume(), { tasks: [], errors: [] })
  } finally {
    await first.close()
    await second.close()
  }
  assert.deepEqual(told, ['letter.txt', 'holiday.zip', 'salaries.zip'], 'nothing was done twice')
  assert.deepEqual(list(), moved)
})

tested('a worker takes what another pipeline put into the queue', async () => {
  const { told, made, list } = place()
  const [sends, works] = [made({ queue: database }), made({ queue: database })]
  const controller = new AbortController()
  try {
    await sends.enqueue({ bucket: 'quarantine', key: 'letter.txt' })
    const working = works.work({ signal: controller.signal })
    for (let i = 0; i < 3000 && list()[1].length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 20))
    controller.abort()
    assert.deepEqual(await working, { done: 1, retried: 0, dead: 0, abandoned: 0 })
    assert.deepEqual([told, list()[1]], [['letter.txt'], ['letter.txt']])
  } finally {
    controller.abort()
    await sends.close()
    await works.close()
  }
})

/** A port of ours that nobody listens on. */
async function closedPort() {
  const probe = createServer()
  await once(probe.listen(0, '127.0.0.1'), 'listening')
  const { port } = probe.address()
  probe.close()
  await once(probe, 'close')
  return port
}

tested('a wrong address is an error of the package, and shows no password', async () => {
  const { password } = new URL(database)
  const changed = (change) => {
    const url = new URL(database)
    change(url)
    return url.href
  }
  const port = await closedPort()
  for (const [address, code, retryable] of [
    [changed((url) => { url.port = port }), 'unavailable', true],
    [changed((url) => { url.pathname = '/nobodys' }), 'config', false],
    [changed((url) => { url.password += 'x' }), 'denied', false],
    [changed((url) => { url.search = '?sslmoed=require' }), 'config', false],
  ]) {
    for (const what of ['store', 'queue']) {
      const pipeline = place().made({ [what]: address })
      // A queue is opened when it is needed.
      const opening = what === 'store' ? pipeline.open() : pipeline.enqueue({ bucket: 'quarantine', key: 'letter.txt' })
      await assert.rejects(opening, (error) => {
        assert.ok(error instanceof ScanPipelineError)
        assert.deepEqual([error.code, error.retryable], [code, retryable], error.message)
        const shown = `${error.stack} ${JSON.stringify(error)} ${error.cause}`
        for (const secret of [password, decodeURIComponent(password)]) assert.ok(!shown.includes(secret), shown)
        return true
      })
      await pipeline.close()
    }
  }
})
