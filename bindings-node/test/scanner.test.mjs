import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createReadStream, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { InfectedError, Scanner, ScanPipelineError, UnscannableError } from 'scan-pipeline'
import { definitions, eicar, filler, folder, samples, zip } from './support.mjs'

const dir = folder()
let scanner
before(async () => { scanner = await Scanner.open({ definitions }) })
after(() => scanner.close())

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')
const parts = async function* (bytes, size = 1000) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const sources = {
  'a Buffer': (bytes) => bytes,
  'a Uint8Array in the middle of its memory': (bytes) => {
    const memory = new Uint8Array(bytes.length + 20).fill(65)
    memory.set(bytes, 10)
    return memory.subarray(10, 10 + bytes.length)
  },
  'an ArrayBuffer': (bytes) => Uint8Array.from(bytes).buffer,
  'a DataView': (bytes) => new DataView(Uint8Array.from(bytes).buffer),
  'shared memory': (bytes) => {
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length))
    shared.set(bytes)
    return shared
  },
  'a Blob': (bytes) => new Blob([bytes]),
  'a File': (bytes) => new File([bytes], 'some.bin'),
  'a ReadableStream': (bytes) => Readable.toWeb(Readable.from(parts(bytes))),
  'a ReadableStream of bytes': (bytes) => new Response(bytes).body,
  'a Readable': (bytes) => Readable.from(parts(bytes)),
  'an async iterable': (bytes) => parts(bytes),
  'a path': (bytes) => { writeFileSync(join(dir, 'a.bin'), bytes); return { path: join(dir, 'a.bin') } },
  'a file: URL': (bytes) => { writeFileSync(join(dir, 'b c.bin'), bytes); return { path: pathToFileURL(join(dir, 'b c.bin')) } },
  'a path that is no text': (bytes) => {
    const path = Buffer.concat([Buffer.from(dir), Buffer.from('/caf\xe9.bin', 'latin1')])
    writeFileSync(path, bytes)
    return { path }
  },
  'a file stream': (bytes) => { writeFileSync(join(dir, 'c.bin'), bytes); return createReadStream(join(dir, 'c.bin')) },
}

for (const [what, make] of Object.entries(sources)) {
  test(`${what} is scanned to its end`, async () => {
    for (const { name, bytes, status } of Object.values(samples)) {
      const report = await scanner.scan(make(bytes), { name })
      assert.equal(report.verdict.status, status)
      assert.equal(report.sha256, sha256(bytes))
      assert.equal(report.size, bytes.length)
    }
  })
}

test('an empty content is clean, and says how little that is', async () => {
  for (const source of [Buffer.alloc(0), new Blob([]), Readable.from([]), new Response('').body]) {
    const report = await scanner.scan(source)
    assert.equal(report.verdict.status, 'clean')
    assert.equal(report.coverage.trivial, true)
    assert.equal(report.size, 0)
  }
})

test('names are those of files, and begin the layer paths', async () => {
  const bytes = zip({ 'a/b.com': eicar })
  writeFileSync(join(dir, 'outer.zip'), bytes)
  const first = async (source, options) => (await scanner.scan(source, options)).threats[0].layerPath
  assert.equal(await first({ path: join(dir, 'outer.zip') }), 'outer.zip/a/b.com')
  assert.equal(await first(new File([bytes], 'sent.zip')), 'sent.zip/a/b.com')
  assert.equal(await first(bytes), 'content/a/b.com')
  assert.equal(await first(bytes, { name: '../../etc/x.zip' }), 'x.zip/a/b.com')
  assert.equal(await first(bytes, { name: 'C:\\temp\\x.zip' }), 'x.zip/a/b.com')
})

test('large bytes go through in slices, and no byte is lost', async () => {
  const bytes = filler(25 << 20, 3)
  eicar.copy(bytes, 0)
  const marked = Buffer.concat([zip({ 'a.txt': filler(1000) }), bytes])
  for (const content of [bytes, marked]) {
    const report = await scanner.scan(content)
    assert.equal(report.sha256, sha256(content))
    assert.equal(report.size, content.length)
  }
})

test('bytes that change after the call are judged as they were taken', async () => {
  const bytes = Buffer.from(samples.infected.bytes)
  const scan = scanner.scan(bytes)
  bytes.fill(0)
  const report = await scan
  assert.equal(report.verdict.status, 'infected')
  assert.equal(report.sha256, sha256(samples.infected.bytes))
})

test('throwForVerdict lets clean contents through alone', async () => {
  const [clean, infected, encrypted] = await Promise.all(Object.values(samples).map(({ bytes, name }) => scanner.scan(bytes, { name })))
  assert.equal(clean.throwForVerdict(), undefined)
  assert.throws(() => infected.throwForVerdict('holiday.zip'), (error) => {
    assert.ok(error instanceof InfectedError && error instanceof ScanPipelineError && error instanceof Error)
    assert.equal(error.code, 'infected')
    assert.equal(error.report, infected)
    assert.equal(error.name, 'InfectedError')
    assert.match(error.message, /holiday\.zip is infected: Eicar/)
    return true
  })
  assert.throws(() => encrypted.throwForVerdict(), (error) => {
    assert.ok(error instanceof UnscannableError)
    assert.equal(error.code, 'unscannable')
    assert.match(error.message, /encrypted/)
    assert.equal(error.retryable, false)
    return true
  })
})

test('a report cannot be changed', async () => {
  const report = await scanner.scan(samples.infected.bytes)
  assert.throws(() => { report.verdict = { status: 'clean' } }, TypeError)
  assert.throws(() => { report.verdict.status = 'clean' }, TypeError)
  const before = JSON.stringify(report)
  const changes = [
    () => report.verdict.threats.push({}), () => { report.verdict.threats[0].signature = '' }, () => { report.threats.length = 0 },
    () => { report.coverage.proven = true }, () => { report.coverage.limits.maxFiles = 1 }, () => report.coverage.gaps.push({}),
    () => { report.engine.name = 'mine' }, () => report.engine.databases.pop(), () => { report.engine.databases[0].name = '' },
    () => report.findings.push({}), () => { report.toJSON().verdict.status = 'clean' }, () => report.toJSON().verdict.threats.pop(),
  ]
  for (const change of changes) assert.throws(change, TypeError, String(change))
  assert.equal(JSON.stringify(report), before)
  const { reasons } = await scanner.scan(samples.encrypted.bytes)
  assert.throws(() => { reasons[0].kind = '' }, TypeError)
  assert.throws(() => reasons.pop(), TypeError)
})

test('an upload hands on the scanned bytes when they are clean, and nothing else', async () => {
  const { name, bytes } = samples.clean
  for (const content of [bytes, filler(3 << 20, 9)]) {
    const upload = await scanner.scanUpload(Readable.from(parts(content, 100_000)), { name })
    assert.equal(upload.isAdmitted, true)
    assert.deepEqual(await upload.content.bytes(), content)
    assert.deepEqual(Buffer.concat(await upload.content.stream().toArray()), content)
    assert.deepEqual(Buffer.from(await new Response(upload.content.webStream()).arrayBuffer()), content)
    const to = join(dir, `saved-${content.length}`)
    await upload.content.saveTo(to)
    assert.deepEqual(readFileSync(to), content)
    await assert.rejects(upload.content.saveTo(to), { code: 'exists' })
    assert.deepEqual(readFileSync(to), content)
  }
  for (const sample of [samples.infected, samples.encrypted]) {
    const upload = await scanner.scanUpload(sample.bytes, { name: sample.name })
    assert.equal(upload.isAdmitted, false)
    assert.equal(upload.report.verdict.status, sample.status)
    assert.throws(() => upload.content, { code: sample.status })
  }
})

test('sensitive data is found in the same pass, and masked', async () => {
  await using(await Scanner.open({ definitions, detect: ['ssn', 'credit_card'] }), async (detecting) => {
    const report = await detecting.scan(zip({ 'people.txt': Buffer.from('Her social security number is 219-09-9999, said the letter. SSN: 536-90-4399') }), { name: 'people.zip' })
    assert.equal(report.verdict.status, 'clean')
    assert.ok(report.findings.length > 0)
    const [finding] = report.findings
    assert.equal(finding.detector, 'ssn')
    assert.equal(finding.layerPath, 'people.zip/people.txt')
    assert.equal(typeof finding.byteOffset, 'number')
    assert.ok(!JSON.stringify(report).includes('536-90-4399'))
  })
})

async function using(resource, body) {
  try { await body(resource) } finally { await resource[Symbol.asyncDispose]() }
}

test('info and health say what scans', async () => {
  const { info } = scanner
  assert.equal(info.name, 'clamav')
  assert.ok(info.signatures > 0)
  assert.match(info.generation, /^[0-9a-f]+$/)
  const health = await scanner.health()
  assert.equal(health.ok, true, JSON.stringify(health.problems))
  assert.equal(health.tempDir.writable, true)
  assert.ok(health.memory.budgetBytes > 0)
  assert.ok(health.rar === true || health.rar === false)
  assert.deepEqual(health.engine, info)
})

test('newer definitions are taken up, and broken ones are not', async () => {
  const own = folder()
  const line = readFileSync(join(definitions, 'test.ndb'), 'utf8')
  writeFileSync(join(own, 'a.ndb'), line)
  await using(await Scanner.open({ definitions: own }), async (changing) => {
    assert.equal(await changing.refreshDefinitions(), false)
    const needle = Buffer.from('a needle that nobody knows yet')
    assert.equal((await changing.scan(needle)).verdict.status, 'clean')
    const before = changing.info.generation
    writeFileSync(join(own, 'b.ndb'), `Test.Needle:0:*:${needle.toString('hex')}\n`)
    assert.equal(await changing.refreshDefinitions(), true)
    assert.notEqual(changing.info.generation, before)
    assert.equal((await changing.scan(needle)).verdict.status, 'infected')
    writeFileSync(join(own, 'b.ndb'), 'this is no signature\n')
    await assert.rejects(changing.refreshDefinitions(), (error) => error instanceof ScanPipelineError)
    assert.equal((await changing.scan(needle)).verdict.status, 'infected')
  })
})

test('progress is told, the end included', async () => {
  const seen = []
  const bytes = filler(12 << 20, 5)
  await scanner.scan(bytes, { onProgress: (progress) => seen.push(progress) })
  const last = seen.at(-1)
  assert.deepEqual(last, { stage: 'done', bytes: bytes.length, total: bytes.length })
  for (const [index, { bytes: read }] of seen.entries()) assert.ok(index === 0 || read >= seen[index - 1].bytes)
})

test('a content that was given up takes nothing any more', async () => {
  // One with a budget of its own, by settings that no other has.
  const alone = await Scanner.open({ definitions, threads: 1, spool: { memory: '64MB' } })
  const free = async () => (await alone.health()).memory.budgetFreeBytes
  const before = await free()
  const upload = await alone.scanUpload(Buffer.alloc(1 << 20, 'a'))
  assert.equal(await free(), before - (1 << 20))
  assert.equal((await upload.content.bytes()).length, 1 << 20)
  upload.dispose()
  upload.dispose()
  assert.equal(await free(), before)
  await assert.rejects(upload.content.bytes(), { code: 'closed' })
  const refused = await alone.scanUpload(samples.infected.bytes)
  assert.equal(refused.isAdmitted, false)
  assert.equal(await free(), before)
  await alone.close()
})
