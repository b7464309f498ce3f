// The real frameworks over HTTP: what a browser sends, and what it gets.
import v8 from 'node:v8'
import vm from 'node:vm'
import 'reflect-metadata'
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { Bind, Body, Controller, Module, Post, UploadedFile, UseInterceptors } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FileInterceptor } from '@nestjs/platform-express'
import { serve } from '@hono/node-server'
import multipart from '@fastify/multipart'
import express from 'express'
import Fastify from 'fastify'
import { Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import multer from 'multer'
import { Scanner } from 'scan-pipeline'
import { scanPart } from 'scan-pipeline/fastify'
import { scanStorage } from 'scan-pipeline/multer'
import { ScanPipe } from 'scan-pipeline/nest'
import { failure, scanWeb } from 'scan-pipeline/web'
import { definitions, filler, samples } from './support.mjs'

const LIMIT = 1 << 20
let scanner
before(async () => { scanner = await Scanner.open({ definitions, spool: { maxSize: LIMIT, stallTimeout: '20s' } }) })
after(() => scanner.close())

/** What every application answers for a clean file: proof that it has the bytes that were scanned. */
const answer = (report, bytes) => ({ sha256: report.sha256, size: bytes.length, text: bytes.toString().slice(0, 10) })
/** Routes that were reached, to show that an upload that is not clean reaches none. */
let reached = 0

const applications = {
  async 'Express with multer'() {
    const app = express()
    app.post('/upload', multer({ storage: scanStorage(scanner) }).single('file'), (request, response) => {
      if (request.file === undefined) return response.status(400).json({ error: 'the form has no file' })
      reached++
      response.json(answer(request.file.report, request.file.buffer))
    })
    app.use((error, _request, response, _next) => response.status(error.status ?? 500).json({ error: error.code }))
    const server = app.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return { port: server.address().port, close: () => server.close() }
  },
  async 'Fastify with @fastify/multipart'() {
    const app = Fastify()
    await app.register(multipart, { limits: { fileSize: 8 * LIMIT } })
    app.post('/upload', async (request, reply) => {
      const { report, content } = await scanPart(scanner, await request.file(), { reply })
      reached++
      return answer(report, await content.bytes())
    })
    await app.listen({ port: 0, host: '127.0.0.1' })
    return { port: app.server.address().port, close: () => app.close(), code: (body) => body.code }
  },
  async Hono() {
    const app = new Hono()
    const scanned = async (c, source) => {
      const upload = await scanWeb(scanner, source)
      try {
        const bytes = await upload.content.bytes()
        reached++
        return c.json(answer(upload.report, bytes))
      } finally {
        upload.dispose()
      }
    }
    const onError = (c) => c.json({ error: 'too_large' }, 413)
    app.post('/upload', bodyLimit({ maxSize: LIMIT + 10_000, onError }), async (c) => scanned(c, (await c.req.parseBody()).file))
    app.post('/raw', (c) => scanned(c, c.req.raw))
    app.onError((error, c) => failure(error) ?? c.text(String(error), 500))
    const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' })
    await once(server, 'listening')
    return { port: server.address().port, close: () => server.close() }
  },
  // The route handler of the cookbook, over HTTP; Next itself is not started.
  async Next() {
    async function POST(request) {
      let upload
      try {
        upload = await scanWeb(scanner, request)
        const bytes = await upload.content.bytes()
        reached++
        return Response.json(answer(upload.report, bytes))
      } catch (error) {
        return failure(error) ?? new Response('something went wrong', { status: 500 })
      } finally {
        upload?.dispose()
      }
    }
    const server = serve({ fetch: POST, port: 0, hostname: '127.0.0.1' })
    await once(server, 'listening')
    return { port: server.address().port, close: () => server.close(), raw: true }
  },
  async Nest() {
    class Uploads {
      upload(file) {
        reached++
        return answer(file.report, file.buffer)
      }
    }
    const method = Object.getOwnPropertyDescriptor(Uploads.prototype, 'upload')
    Controller()(Uploads)
    Post('upload')(Uploads.prototype, 'upload', method)
    UseInterceptors(FileInterceptor('file', { limits: { fileSize: LIMIT } }))(Uploads.prototype, 'upload', method)
    UploadedFile(new ScanPipe(scanner))(Uploads.prototype, 'upload', 0)
    class App {}
    Module({ controllers: [Uploads] })(App)
    const app = await NestFactory.create(App, { logger: false })
    await app.listen(0, '127.0.0.1')
    // Nest's own word for what is over multer's limit.
    const code = ({ error }) => (error === 'Payload Too Large' ? 'too_large' : error)
    return { port: app.getHttpServer().address().port, close: () => app.close(), code }
  },
}

for (const [framework, start] of Object.entries(applications)) {
  describe(framework, () => {
    let app
    before(async () => { app = await start() })
    after(() => app.close())
    const url = (path = '/upload') => `http://127.0.0.1:${app.port}${path}`
    const send = async (name, bytes) => {
      const form = new FormData()
      form.append('note', 'a field before the file')
      form.append('file', new File([bytes], name))
      const ask = () => fetch(url(), { method: 'POST', body: app.raw ? bytes : form })
      // Whoever refuses a body that he has not read closes the connection, which the client may have kept for this request.
      const response = await ask().catch((error) => (error.cause?.code === 'UND_ERR_SOCKET' ? ask() : Promise.reject(error)))
      const body = await response.json()
      return { status: response.status, body, code: app.code?.(body) ?? body.error }
    }

    test('a clean file arrives, byte for byte', async () => {
      const { name, bytes } = samples.clean
      const { status, body } = await send(name, bytes)
      assert.ok(status === 200 || status === 201, `${status} ${JSON.stringify(body)}`)
      assert.equal(body.size, bytes.length)
      assert.equal(body.text, 'Dear Sir o')
      const direct = await scanner.scan(bytes)
      assert.equal(body.sha256, direct.sha256)
    })

    test('an infected, an encrypted and an oversize file reach no route', async () => {
      const before = reached
      for (const [sample, status, code] of [
        [samples.infected, 422, 'infected'],
        [samples.encrypted, 422, 'unscannable'],
        [{ name: 'much.bin', bytes: filler(2 * LIMIT) }, 413, 'too_large'],
      ]) {
        const got = await send(sample.name, sample.bytes)
        assert.deepEqual([got.status, got.code], [status, code], `${sample.name}: ${JSON.stringify(got.body)}`)
      }
      assert.equal(reached, before)
    })

    if (framework !== 'Next') test('an upload that is broken off reaches no route, and leaves the application as it was', async () => {
      const before = reached
      for (const cut of [12, 400]) {
        const socket = connect(app.port, '127.0.0.1')
        await once(socket, 'connect')
        const body = Buffer.concat([
          Buffer.from('--X\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'),
          samples.clean.bytes, Buffer.from('\r\n--X--\r\n'),
        ])
        socket.write(`POST /upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=X\r\nContent-Length: ${body.length}\r\n\r\n`)
        socket.write(body.subarray(0, body.length - cut))
        await new Promise((resolve) => setTimeout(resolve, 100))
        socket.destroy()
      }
      const { status } = await send(samples.clean.name, samples.clean.bytes)
      assert.ok(status === 200 || status === 201)
      assert.equal(reached, before + 1)
      await drained()
    })

    // Without a form a body of no bytes is an empty file.
    if (framework !== 'Next') test('a request without a file is refused', async () => {
      const form = new FormData()
      form.append('note', 'no file')
      const response = await fetch(url(), { method: 'POST', body: form })
      assert.equal(response.status, 400)
    })

    if (framework === 'Hono' || framework === 'Next') rawBodies(() => app.port, framework === 'Next' ? '/upload' : '/raw')

    if (framework === 'Hono') {
      test('the body of a request is scanned as it is', async () => {
        for (const [{ bytes }, status] of [[samples.clean, 200], [samples.infected, 422], [samples.encrypted, 422], [{ bytes: filler(2 * LIMIT) }, 413]]) {
          const response = await fetch(url('/raw'), { method: 'POST', body: bytes })
          assert.equal(response.status, status)
        }
      })

      test('a form that never ends is refused by the limit of its parser', async () => {
        const endless = new ReadableStream({ pull: (to) => to.enqueue(filler(64 << 10)) })
        const head = 'multipart/form-data; boundary=X'
        // The answer comes while the body is still being sent; which of the two wins is the client's affair.
        const status = await fetch(url(), { method: 'POST', body: endless, duplex: 'half', headers: { 'content-type': head } }).then((response) => response.status, () => 413)
        assert.equal(status, 413)
        assert.equal((await send(samples.clean.name, samples.clean.bytes)).status, 200)
      })
    }
  })
}

/** A body that breaks off, with and without its length announced, is no shorter one. */
function rawBodies(port, path) {
  const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n`
  const { bytes } = samples.clean
  const chunk = (part) => Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from('\r\n')])
  const bodies = {
    'Content-Length': [`Content-Length: ${bytes.length}\r\n\r\n`, [bytes.subarray(0, 100)], [bytes.subarray(100)]],
    'Transfer-Encoding: chunked': ['Transfer-Encoding: chunked\r\n\r\n', [chunk(bytes.subarray(0, 100))], [chunk(bytes.subarray(100)), '0\r\n\r\n']],
  }
  for (const [how, [headers, first, rest]] of Object.entries(bodies)) {
    test(`a raw body that breaks off reaches no route (${how})`, async () => {
      const before = reached
      const open = async (parts) => {
        const socket = connect(port(), '127.0.0.1')
        await once(socket, 'connect')
        socket.write(head + headers)
        for (const part of parts) socket.write(part)
        return socket
      }
      // Torn off, and ended as if it were whole.
      for (const end of ['destroy', 'end']) {
        const socket = await open(first)
        await new Promise((resolve) => setTimeout(resolve, 50))
        socket.on('error', () => {})
        socket[end]()
        if (end === 'end') socket.resume()
        await once(socket, 'close')
      }
      const whole = await open([...first, ...rest])
      assert.match(Buffer.concat(await whole.toArray()).toString(), /^HTTP\/1\.1 200/)
      await drained()
      assert.equal(reached, before + 1)
    })
  }
}

/** Every content of an upload that was given up is gone. */
async function drained() {
  v8.setFlagsFromString('--expose-gc')
  const gc = vm.runInNewContext('gc')
  for (let i = 0; i < 200; i++) {
    gc()
    const { memory } = await scanner.health()
    if (memory.budgetFreeBytes === memory.budgetBytes) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  assert.fail('memory of uploads that are over is still held')
}

test('multer\'s own limit is no end of a file', async () => {
  const app = express()
  app.post('/upload', multer({ storage: scanStorage(scanner), limits: { fileSize: 100 } }).single('file'), (_request, response) => {
    reached++
    response.json({})
  })
  app.use((error, _request, response, _next) => response.status(error.status ?? 413).json({ error: error.code }))
  const server = app.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const before = reached
  const form = new FormData()
  form.append('file', new File([samples.clean.bytes], 'a.txt'))
  const response = await fetch(`http://127.0.0.1:${server.address().port}/upload`, { method: 'POST', body: form })
  assert.equal(response.status, 413)
  assert.equal(reached, before)
  server.close()
})

test('Fastify\'s own limit is no end of a file', async () => {
  const app = Fastify()
  await app.register(multipart, { limits: { fileSize: 100 }, throwFileSizeLimit: false })
  app.post('/upload', async (request) => {
    const { content } = await scanPart(scanner, await request.file())
    reached++
    return { size: content.size }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const before = reached
  const form = new FormData()
  form.append('file', new File([samples.clean.bytes], 'a.txt'))
  const response = await fetch(`http://127.0.0.1:${app.server.address().port}/upload`, { method: 'POST', body: form })
  assert.equal(response.status, 413)
  assert.equal(reached, before)
  await app.close()
})
