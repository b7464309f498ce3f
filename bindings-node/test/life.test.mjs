// The life of a process with scanners in it: worker threads, memory, the event loop, and all the ways to end.
import assert from 'node:assert/strict'
import { createReadStream, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { once } from 'node:events'
import * as esm from 'scan-pipeline'
import { definitions, eicar, filler, folder, run, samples } from './support.mjs'

const { Scanner } = esm
const prelude = `
  import { Scanner } from 'scan-pipeline'
  import { filler, samples } from './support.mjs'
  const definitions = ${JSON.stringify(definitions)}
`

test('whoever imports and whoever requires has the same classes', () => {
  const cjs = createRequire(import.meta.url)('scan-pipeline')
  for (const name of ['Scanner', 'Report', 'ScanPipelineError', 'InfectedError', 'UnscannableError', 'Upload', 'Content']) {
    assert.equal(typeof esm[name], 'function', name)
    assert.equal(cjs[name], esm[name], name)
  }
})

test('worker threads share one engine, and their end disturbs nobody', async () => {
  const scanner = await Scanner.open({ definitions, threads: 1 })
  const code = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { Scanner } = require('scan-pipeline')
    Scanner.open({ definitions: workerData.definitions, threads: 1 }).then(async (scanner) => {
      const statuses = []
      for (let i = 0; i < 50; i++) statuses.push((await scanner.scan(workerData.bytes)).verdict.status)
      parentPort.postMessage({ statuses, generation: scanner.info.generation })
      if (workerData.leaves) await scanner.close()
    })`
  const workers = [true, false, true, false].map((leaves) => new Worker(code, { eval: true, workerData: { definitions, bytes: eicar, leaves } }))
  const answers = await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0]))
  for (const { statuses, generation } of answers) {
    assert.deepEqual([...new Set(statuses)], ['infected'])
    assert.equal(statuses.length, 50)
    assert.equal(generation, scanner.info.generation)
  }
  await Promise.all(workers.map((worker) => worker.terminate()))
  assert.equal((await scanner.scan(eicar)).verdict.status, 'infected')
  await scanner.close()
})

test('worker threads that are killed in the middle of scans disturb nobody', async () => {
  const scanner = await Scanner.open({ definitions, threads: 2 })
  const code = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { Scanner } = require('scan-pipeline')
    Scanner.open({ definitions: workerData.definitions, threads: 2 }).then(async (scanner) => {
      const bytes = Buffer.alloc(3 << 20, 'some text ')
      parentPort.postMessage('ready')
      for (;;) await Promise.all([scanner.scan(bytes), scanner.scan(workerData.bytes), scanner.scan((async function* () { for (;;) yield Buffer.alloc(10000) })())])
    })`
  for (let round = 0; round < 5; round++) {
    const worker = new Worker(code, { eval: true, workerData: { definitions, bytes: samples.infected.bytes } })
    await once(worker, 'message')
    assert.equal((await scanner.scan(eicar)).verdict.status, 'infected')
    await worker.terminate()
    assert.equal((await scanner.scan(samples.clean.bytes)).verdict.status, 'clean')
  }
  await scanner.close()
})

test('a pending scan keeps the process, and an idle scanner does not', async () => {
  const { code, stdout, stderr } = await run(`${prelude}
    const scanner = await Scanner.open({ definitions })
    scanner.scan(samples.infected.bytes).then(({ verdict }) => console.log(verdict.status))`)
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'infected\n', stderr: '' })
})

test('a process that ends in the middle of scans ends well, every way', async () => {
  const begin = `${prelude}
    const scanner = await Scanner.open({ definitions, threads: 2 })
    const bytes = filler(20 << 20)
    const scans = () => { for (let i = 0; i < 4; i++) scanner.scan(bytes.subarray(0, 4 << 20)).then(() => i === 0 && scans(), () => {}) }
    scans()
    scanner.scan(bytes).catch(() => {})
    // Said at the end of the process, however it comes: whether the scan that has no end was still under way.
    let stuck = true
    process.on('exit', () => console.log(stuck ? 'under way' : 'over'))
    scanner.scan((async function* () { for (;;) { yield bytes.subarray(0, 1000); await new Promise((go) => setTimeout(go, 1)) } })()).finally(() => { stuck = false }).catch(() => {})
  `
  const ends = {
    'process.exit': ['process.exit(7)', { code: 7, signal: null }],
    'process.exit a while later': ['setTimeout(() => process.exit(7), 60)', { code: 7, signal: null }],
    'an exception': ['setTimeout(() => { throw new Error("mine") }, 30)', { code: 1, signal: null }],
    'a signal': ['setTimeout(() => process.kill(process.pid, "SIGTERM"), 30)', { code: null, signal: 'SIGTERM' }],
  }
  for (const [how, [end, wanted]] of Object.entries(ends)) {
    for (let round = 0; round < 3; round++) {
      const { code, signal, stdout, stderr } = await run(begin + end)
      assert.deepEqual({ code, signal }, wanted, `${how}: ${stderr}`)
      if (signal === null) assert.equal(stdout, 'under way\n', how)
      assert.doesNotMatch(stderr, /panicked|FATAL|Segmentation/, how)
    }
  }
})

describe('the event loop goes on during a scan of 100 MB', () => {
  const MB100 = 100 << 20
  const dir = folder()
  let scanner
  let bytes
  before(async () => {
    scanner = await Scanner.open({ definitions, threads: 1, limits: { maxFileSize: '200MB' }, spool: { memory: '1GB' } })
    bytes = filler(MB100)
    writeFileSync(join(dir, 'large'), bytes)
  })
  after(() => scanner.close())

  /** Milliseconds for which this thread was ready to run and others had the processor, where the system tells. */
  function kept() {
    try {
      return Number(readFileSync('/proc/self/schedstat', 'utf8').split(' ')[1]) / 1e6
    } catch {
      return 0
    }
  }

  /** How long a ticker of 5 ms is held up while something goes on, other programs on a busy machine not counted. */
  async function gaps(work) {
    const now = () => performance.now() - kept()
    const began = now()
    const seen = []
    let last = began
    const tick = () => {
      const at = now()
      seen.push(at - last)
      last = at
    }
    const ticker = setInterval(tick, 5)
    await work()
    clearInterval(ticker)
    // What came after the last tick counts, too.
    tick()
    return { longest: Math.max(...seen), lost: Math.max(0, 1 - seen.length / ((last - began) / 5)), ticks: seen.length }
  }

  const sources = {
    'a Buffer': () => bytes,
    'a path': () => ({ path: join(dir, 'large') }),
    'a file stream': () => createReadStream(join(dir, 'large')),
    'a Readable of one Buffer': () => Readable.from([bytes], { objectMode: true }),
    'a web stream of one Buffer': () => new ReadableStream({
      start(controller) {
        controller.enqueue(bytes)
        controller.close()
      },
    }),
  }
  for (const [what, make] of Object.entries(sources)) {
    test(what, async () => {
      // What blocks the loop does so in each round.
      const rounds = []
      for (let round = 0; round < 4; round++) {
        const idle = await gaps(() => new Promise((resolve) => setTimeout(resolve, 500)))
        const busy = await gaps(async () => assert.equal((await scanner.scan(make())).size, MB100))
        rounds.push({ idle, busy })
        assert.ok(busy.ticks > 20, `${busy.ticks} ticks: the scan was too short to tell`)
        // A copy of 100 MB in one turn takes longer than this.
        if (busy.longest <= Math.max(25, 2 * idle.longest) && busy.lost <= idle.lost + 0.25) return
      }
      assert.fail(JSON.stringify(rounds))
    })
  }
})

test('memory is given back', async () => {
  const { code, stdout, stderr } = await run(`${prelude}
    const scanner = await Scanner.open({ definitions, threads: 2 })
    const bytes = filler(1 << 20)
    const round = async () => {
      for (let i = 0; i < 40; i++) await Promise.all(Array.from({ length: 4 }, () => scanner.scan(bytes)))
      gc()
      return process.memoryUsage.rss()
    }
    await round()
    const before = await round()
    const after = await round()
    console.log(JSON.stringify({ before, after, health: (await scanner.health()).memory }))
    await scanner.close()`, { args: ['--expose-gc'] })
  assert.equal(code, 0, stderr)
  const { before, after, health } = JSON.parse(stdout)
  assert.ok(after < before + (60 << 20), `${before} bytes grew to ${after}`)
  assert.equal(health.budgetFreeBytes, health.budgetBytes)
})
