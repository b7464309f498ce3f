// Every fixture of the catalogue through the doors behind which something happens: an upload, an upload of a pipeline, and
// an object in a bucket. Only what is clean is handed on or moved, and each report is the one that a scan gives.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { copyFileSync, createReadStream, existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { moveTo, Pipeline, Scanner, workflow } from 'scan-pipeline'
import { definitions, fixtures, folder } from './support.mjs'

const { all, dir } = fixtures()
const work = folder()
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
let scanner
let pipeline

before(async () => {
  scanner = await Scanner.open({ definitions })
  for (const name of ['in', 'clean', 'infected']) mkdirSync(join(work, name))
  for (const { name } of all) copyFileSync(join(dir, name), join(work, 'in', name))
  pipeline = await new Pipeline({
    scanner, store: `sqlite://${join(work, 'state.db')}`, limits: { settle: 0, verdictCache: 0 },
    buckets: { in: `file://${join(work, 'in')}`, clean: `file://${join(work, 'clean')}`, infected: `file://${join(work, 'infected')}` },
  })
    .on('clean', workflow('release').then(moveTo('clean')))
    .on('infected', workflow('isolate').then(moveTo('infected')))
    .on('unscannable', 'leave')
    .open()
})
after(async () => {
  await pipeline.close()
  await scanner.close()
})

/** What a report says, without what differs from scan to scan. */
function said(name, report) {
  const { elapsed_ms: _, ...json } = report.toJSON()
  // The parts of a mail have no stable order (clamav-core says so).
  return name.endsWith('.eml') ? JSON.parse(JSON.stringify(json).replace(/\/#\d+/g, '/#')) : json
}

async function gate(upload, bytes, status, where) {
  assert.equal(upload.report.verdict.status, status, where)
  assert.equal(upload.isAdmitted, status === 'clean', where)
  if (status === 'clean') assert.deepEqual(await upload.content.bytes(), bytes, where)
  else assert.throws(() => upload.content, { code: status }, where)
  upload.dispose()
}

test('the catalogue is there, with files of each verdict', () => {
  assert.ok(all.length > 200, String(all.length))
  assert.equal(new Set(all.map(({ report }) => report.verdict.status)).size, 3)
})

for (const { name, report: { verdict: { status } } } of all) {
  test(name, async () => {
    const path = join(dir, name)
    const bytes = readFileSync(path)
    const expected = said(name, await scanner.scan(bytes, { name }))
    assert.equal(expected.verdict.status, status)

    const upload = await scanner.scanUpload(createReadStream(path), { name })
    assert.deepEqual(said(name, upload.report), expected)
    await gate(upload, bytes, status, 'scanUpload')

    const processed = await pipeline.processUpload(createReadStream(path), { name })
    assert.deepEqual(said(name, processed.report), expected)
    assert.deepEqual(said(name, processed.processed.task.report), expected)
    await gate(processed, bytes, status, 'processUpload')

    const { task } = await pipeline.process({ bucket: 'in', key: name })
    assert.equal(task.state, 'done', JSON.stringify(task.steps))
    assert.deepEqual(said(name, task.report), expected)
    assert.deepEqual(said(name, (await pipeline.task(task.id)).report), expected)
    const at = { clean: 'clean', infected: 'infected', unscannable: 'in' }[status]
    for (const place of ['in', 'clean', 'infected']) assert.equal(existsSync(join(work, place, name)), place === at, `${name} in ${place}`)
    assert.equal(sha256(readFileSync(join(work, at, name))), task.report.sha256)
  })
}

test('nothing but clean files was let through', () => {
  const clean = all.filter(({ report }) => report.verdict.status === 'clean').map(({ name }) => name).sort()
  assert.deepEqual(readdirSync(join(work, 'clean')).filter((name) => !name.startsWith('.scan-pipeline')).sort(), clean)
})
