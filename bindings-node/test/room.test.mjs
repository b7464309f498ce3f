// Memory that uploads hold: who keeps them makes others busy, and nobody hangs.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { test } from 'node:test'
import v8 from 'node:v8'
import vm from 'node:vm'
import multipart from '@fastify/multipart'
import express from 'express'
import Fastify from 'fastify'
import multer from 'multer'
import { Pipeline, Scanner } from 'scan-pipeline'
import { scanPart } from 'scan-pipeline/fastify'
import { scanStorage } from 'scan-pipeline/multer'
import { definitions, filler, folder } from './support.mjs'

const dir = folder()
const KEPT = 700 << 10
const open = (spool = {}) => Scanner.open({ definitions, spool: { memory: '1MB', memoryThreshold: KEPT, roomTimeout: 300, ...spool } })
const free = async (scanner) => (await scanner.health()).memory.budgetFreeBytes

test('uploads that are kept make others busy, and nobody waits for ever', async () => {
  const scanner = await open()
  const kept = await scanner.scanUpload(filler(KEPT))
  const large = filler(KEPT + 1, 2)
  writeFileSync(join(dir, 'large'), large)
  const pipeline = await new Pipeline({ scanner, buckets: { any: 'memory://any' }, store: `sqlite://${join(dir, 'room.db')}` }).open()
  const calls = [
    () => scanner.scan({ path: join(dir, 'large') }), () => scanner.scan(Readable.from([large])), () => scanner.scanUpload(large),
    // The pipeline takes its memory from the same account.
    () => pipeline.processUpload(Readable.from([large])),
  ]
  for (const call of calls) {
    await assert.rejects(call(), (error) => {
      assert.equal(error.code, 'busy', error.message)
      assert.equal(error.retryable, true)
      assert.equal(error.statusCode, 503)
      assert.match(error.message + String(error.cause ?? ''), /no room for \d+ bytes/)
      return true
    })
  }
  assert.deepEqual(await kept.content.bytes(), filler(KEPT))
  kept.dispose()
  for (const call of calls) {
    const answer = await call()
    answer.dispose?.()
  }
  await pipeline.close()
  await scanner.close()
})

test('a call that waits for room goes on when somebody disposes of his', async () => {
  const scanner = await open({ roomTimeout: '30s' })
  const kept = await scanner.scanUpload(filler(KEPT))
  const waits = scanner.scan(Readable.from([filler(KEPT + 1, 2)]))
  setTimeout(() => kept.dispose(), 50)
  assert.equal((await waits).verdict.status, 'clean')
  await scanner.close()
})

test('the garbage collector is told how much an upload holds', async () => {
  v8.setFlagsFromString('--expose-gc')
  const gc = vm.runInNewContext('gc')
  const scanner = await Scanner.open({ definitions })
  gc()
  const before = process.memoryUsage().external
  const size = 32 << 20
  let upload = await scanner.scanUpload(Readable.from([Buffer.alloc(size, 'a')]))
  gc()
  const held = process.memoryUsage().external
  assert.ok(held - before > size - (8 << 20), `${held - before}`)
  upload.dispose()
  upload.dispose()
  gc()
  assert.ok(process.memoryUsage().external - before < 8 << 20)
  upload = await scanner.scanUpload(Readable.from([Buffer.alloc(size, 'a')]))
  upload = undefined
  for (let i = 0; i < 200 && process.memoryUsage().external - before > 8 << 20; i++) {
    await new Promise((resolve) => setImmediate(resolve))
    gc()
  }
  assert.ok(process.memoryUsage().external - before < 8 << 20)
  await scanner.close()
})

const send = async (port, bytes) => {
  const form = new FormData()
  form.append('file', new File([bytes], 'a.bin'))
  const response = await fetch(`http://127.0.0.1:${port}/upload`, { method: 'POST', body: form })
  return { status: response.status, body: await response.json() }
}

test('an application that keeps its requests holds nothing of uploads that are answered', async () => {
  const scanner = await open()
  const requests = []
  const app = express()
  app.post('/upload', multer({ storage: scanStorage(scanner) }).single('file'), (request, response) => {
    requests.push(request.file)
    response.json({ size: request.file.content.size })
  })
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const other = Fastify()
  await other.register(multipart)
  other.post('/upload', async (request, reply) => {
    const upload = await scanPart(scanner, await request.file(), { reply })
    requests.push(upload)
    return { size: (await upload.content.bytes()).length }
  })
  await other.listen({ port: 0, host: '127.0.0.1' })
  const all = await free(scanner)
  for (const { port } of [server.address(), other.server.address()]) {
    for (let i = 0; i < 5; i++) {
      const { status, body } = await send(port, filler(KEPT - 1000, i + 1))
      assert.deepEqual([status, body], [200, { size: KEPT - 1000 }])
    }
  }
  assert.equal(requests.length, 10)
  for (let i = 0; i < 200 && await free(scanner) !== all; i++) await new Promise((resolve) => setTimeout(resolve, 10))
  assert.equal(await free(scanner), all)
  await assert.rejects(requests[0].content.bytes(), { code: 'closed' })
  server.close()
  await other.close()
  await scanner.close()
})

test('a route that wants to keep a content after the response says so', async () => {
  const scanner = await open()
  const app = express()
  let file
  app.post('/upload', multer({ storage: scanStorage(scanner, { keep: true, buffer: false }) }).single('file'), (request, response) => {
    file = request.file
    response.json({})
  })
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  await send(server.address().port, filler(1000))
  await new Promise((resolve) => server.close(resolve))
  assert.equal(file.buffer, undefined)
  assert.deepEqual(await file.content.bytes(), filler(1000))
  file.content.dispose()
  await scanner.close()
})
