// A small upload page: what a user of a web application sees of a file that is clean, infected or cannot be scanned.
//
//   node demo/server.mjs            http://localhost:8080, or another PORT
//
// DEFINITIONS names a folder of signature databases; the default finds test files only.
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import express from 'express'
import multer from 'multer'
import { Scanner, ScanPipelineError } from 'scan-pipeline'
import { scanStorage } from 'scan-pipeline/multer'

const here = dirname(fileURLToPath(import.meta.url))
const definitions = process.env.DEFINITIONS ?? join(here, '..', '..', 'scan-pipeline', 'definitions')
const scanner = await Scanner.open({ definitions, spool: { maxSize: '25MB' } })
const app = express()
app.disable('x-powered-by')

app.get('/', (_request, response) => {
  // No script of anybody else's, and none that came with a file's name.
  response.set('content-security-policy', "default-src 'self'; frame-ancestors 'none'")
  response.sendFile(join(here, 'page.html'))
})
app.get(['/page.js', '/page.css'], (request, response) => response.sendFile(join(here, request.path)))

app.post('/upload', multer({ storage: scanStorage(scanner) }).single('file'), (request, response) => {
  if (request.file === undefined) {
    response.status(400).json({ status: 'missing' })
    return
  }
  const { report, originalname } = request.file
  response.json({ status: 'clean', name: originalname, size: report.size, sha256: report.sha256 })
})

app.use((error, _request, response, _next) => {
  if (response.headersSent || !(error instanceof ScanPipelineError)) {
    response.status(500).json({ status: 'failed' })
    return
  }
  const { report } = error
  if (report === undefined) {
    response.status(error.statusCode).json({ status: error.code === 'too_large' ? 'too_large' : 'failed' })
    return
  }
  const { status } = report.verdict
  // Users learn why; the places inside of a file, which say what was looked at, are for the log.
  const reasons = [...new Set(report.reasons.map(({ kind }) => kind))]
  response.status(error.statusCode).json({ status, threats: report.threats.map(({ signature }) => signature), reasons })
})

const server = app.listen(Number(process.env.PORT ?? 8080), '127.0.0.1', () => {
  console.log(`http://localhost:${server.address().port}`)
})
const stop = () => server.close(() => scanner.close())
process.once('SIGINT', stop)
process.once('SIGTERM', stop)
