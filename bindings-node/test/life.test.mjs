// The life of a process with scanners in it: worker threads, memory, the event loop, and all the ways to end.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { once } from 'node:events'
import * as esm from 'scan-pipeline'
import { definitions, eicar, filler, run, samples } from './support.mjs'

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
    for (let i = 0; i < 4; i++) scanner.scan(bytes.subarray(0, 4 << 20)).catch(() => {})
    scanner.scan(bytes).catch(() => {})
    scanner.scan((async function* () { for (;;) { yield bytes.subarray(0, 1000); await new Promise((go) => setTimeout(go, 1)) } })()).catch(() => {})
  `
  const ends = {
    'process.exit': ['process.exit(7)', { code: 7, signal: null }],
    'process.exit a while later': ['setTimeout(() => process.exit(7), 60)', { code: 7, signal: null }],
    'an exception': ['setTimeout(() => { throw new Error("mine") }, 30)', { code: 1, signal: null }],
    'a signal': ['setTimeout(() => process.kill(process.pid, "SIGTERM"), 30)', { code: null, signal: 'SIGTERM' }],
  }
  for (const [how, [end, wanted]] of Object.entries(ends)) {
    for (let round = 0; round < 3; round++) {
      const { code, signal, stderr } = await run(begin + end)
      assert.deepEqual({ code, signal }, wanted, `${how}: ${stderr}`)
      assert.doesNotMatch(stderr, /panicked|FATAL|Segmentation/, how)
    }
  }
})

test('the event loop goes on during a scan of 100 MB', async () => {
  const scanner = await Scanner.open({ definitions, limits: { maxFileSize: '200MB' } })
  const bytes = filler(100 << 20)
  const gaps = []
  let last = performance.now()
  const ticker = setInterval(() => {
    const now = performance.now()
    gaps.push(now - last)
    last = now
  }, 5)
  const report = await scanner.scan(bytes)
  clearInterval(ticker)
  await scanner.close()
  assert.equal(report.size, bytes.length)
  // A loop that was blocked for the length of the scan would have ticked once or twice. What a tick costs on a busy
  // machine is for the benches to say.
  assert.ok(gaps.length > 20, `${gaps.length} ticks`)
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
