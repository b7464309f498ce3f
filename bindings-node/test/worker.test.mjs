// The worker of the cookbook, as it stands there, stopped as process managers do it.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { call, Pipeline, Scanner, workflow } from 'scan-pipeline'
import { definitions, folder, here, samples } from './support.mjs'

const root = join(here, '..')

/** The example with folders of its own; its handler for infected files needs a server, and is left out. */
function place() {
  const dir = folder()
  for (const name of ['quarantine', 'clean', 'infected', 'node_modules']) mkdirSync(join(dir, name))
  symlinkSync(root, join(dir, 'node_modules', 'scan-pipeline'))
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const [, example] = /## A worker for a quarantine bucket\n\n```js\n([^]*?)```/.exec(readme)
  const changes = [
    ['Scanner.open()', `Scanner.open({ definitions: ${JSON.stringify(definitions)} })`],
    ['/var/lib/app/scan.db', join(dir, 'scan.db')], ['/var/lib/app/queue.db', join(dir, 'queue.db')],
    ['/srv/quarantine', join(dir, 'quarantine')], ['/srv/clean', join(dir, 'clean')], ['/srv/infected', join(dir, 'infected')],
    ["notify('https://example.com/scanned', { secrets: process.env.WEBHOOK_SECRET }),", ''],
  ]
  let script = example
  for (const [from, to] of changes) {
    assert.ok(script.includes(from), from)
    script = script.replaceAll(from, to)
  }
  writeFileSync(join(dir, 'worker.mjs'), script)
  const put = (count) => {
    for (let i = 0; i < count; i++) writeFileSync(join(dir, 'quarantine', `${i}.txt`), `letter ${i}: all is well`)
  }
  return { dir, put, list: (name) => readdirSync(join(dir, name)).filter((file) => !file.startsWith('.')) }
}

function start(dir) {
  const child = spawn(process.execPath, ['worker.mjs'], { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text) => { stderr += text })
  const lines = []
  child.stdout.setEncoding('utf8').on('data', (text) => lines.push(...text.trim().split('\n')))
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, stderr }))
  const until = async (what) => {
    for (let i = 0; i < 3000 && !what(lines); i++) {
      if (child.exitCode !== null) assert.fail(`it has ended: ${stderr}`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    assert.ok(what(lines), `${lines} ${stderr}`)
  }
  return { child, ended, until }
}

for (const signal of ['SIGINT', 'SIGTERM']) {
  test(`${signal} ends a worker that waits for messages`, async () => {
    const { dir, put, list } = place()
    put(2)
    writeFileSync(join(dir, 'quarantine', samples.infected.name), samples.infected.bytes)
    const { child, ended, until } = start(dir)
    await until((lines) => lines.length === 3)
    child.kill(signal)
    assert.deepEqual(await ended, { code: 0, signal: null, stderr: '' })
    assert.equal(list('clean').length, 2)
    assert.deepEqual(list('infected'), [samples.infected.name])
  })

  test(`${signal} ends a worker in the middle of what was there already, and the next one has the rest`, async () => {
    const { dir, put, list } = place()
    put(400)
    const first = start(dir)
    await first.until((lines) => lines.length > 0)
    first.child.kill(signal)
    assert.deepEqual(await first.ended, { code: 0, signal: null, stderr: '' })
    assert.ok(list('quarantine').length > 0, 'it was through before the signal came')
    const second = start(dir)
    await second.until(() => list('quarantine').length === 0)
    second.child.kill(signal)
    assert.equal((await second.ended).code, 0)
    assert.equal(list('clean').length, 400)
  })
}

let scanner
before(async () => { scanner = await Scanner.double() })
after(() => scanner.close())

test('a run that is stopped throws the reason, and is no end of the listing', async () => {
  const { dir, put } = place()
  put(20)
  const pipeline = await new Pipeline({
    scanner, store: `sqlite://${join(dir, 'state.db')}`, limits: { settle: 0, concurrency: 1 }, buckets: { in: `file://${join(dir, 'quarantine')}` },
  }).on('clean', workflow('slow').then(call('slow', () => new Promise((resolve) => setTimeout(resolve, 20))))).open()
  const reason = { any: 'thing' }
  const seen = []
  const all = async (signal, each) => { for await (const one of pipeline.run('in', { signal })) each(one) }
  await assert.rejects(all(AbortSignal.abort(reason), () => assert.fail('nothing is begun')), (error) => error === reason)
  const between = new AbortController()
  await assert.rejects(all(between.signal, (one) => {
    seen.push(one)
    between.abort(reason)
  }), (error) => error === reason)
  assert.equal(seen.length, 1)
  const waiting = new AbortController()
  setTimeout(() => waiting.abort(reason), 30)
  await assert.rejects(all(waiting.signal, (one) => seen.push(one)), (error) => error === reason)
  assert.ok(seen.length < 20)
  const whole = []
  await all(new AbortController().signal, ({ status }) => whole.push(status))
  assert.deepEqual(whole, Array(20).fill('done'))
  await pipeline.close()
})
