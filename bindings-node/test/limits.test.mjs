// Limits that are not the defaults: what is beyond them is unscannable, for the reason that it is.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Scanner } from 'scan-pipeline'
import { definitions, eicar, filler, zip } from './support.mjs'

const text = (length) => Buffer.alloc(length, 'all is well. ')
const nested = (levels, bytes) => levels === 0 ? bytes : zip({ [`level${levels}.zip`]: nested(levels - 1, bytes) })
const many = (count) => zip(Object.fromEntries(Array.from({ length: count }, (_, n) => [`${n}.txt`, Buffer.from(`the file with the number ${n}`)])))

const cases = {
  maxFileSize: {
    settings: { maxFileSize: 10_000 }, kind: 'too_large', layerPath: /^a\.zip\/inner\.bin$/,
    beyond: () => zip({ 'inner.bin': text(20_000) }), within: () => zip({ 'inner.bin': text(9_000) }),
  },
  maxRecursion: {
    settings: { maxRecursion: 4 }, kind: 'too_deep', layerPath: /^a\.zip\/level/,
    beyond: () => nested(7, text(100)), within: () => nested(2, text(100)),
  },
  maxFiles: {
    settings: { maxFiles: 10 }, kind: 'too_many_files', layerPath: /^a\.zip/,
    beyond: () => many(30), within: () => many(5),
  },
  maxScanSize: {
    settings: { maxScanSize: 100_000 }, kind: 'scan_size', layerPath: /^a\.zip/,
    beyond: () => zip(Object.fromEntries([1, 2, 3, 4].map((n) => [`${n}.bin`, filler(60_000, n)]))), within: () => zip({ 'a.bin': text(20_000) }),
  },
}

for (const [limit, { settings, kind, layerPath, beyond, within }] of Object.entries(cases)) {
  test(`${limit}: what is beyond it is ${kind}, and what is within it is clean`, async () => {
    const scanner = await Scanner.open({ definitions, limits: settings })
    const loose = await Scanner.open({ definitions })
    const report = await scanner.scan(beyond(), { name: 'a.zip' })
    assert.equal(report.verdict.status, 'unscannable')
    assert.ok(report.verdict.reasons.some((reason) => reason.kind === kind && layerPath.test(reason.layerPath)), JSON.stringify(report.verdict))
    assert.throws(() => report.throwForVerdict(), { code: 'unscannable', message: new RegExp(kind) })
    const [[name, most]] = Object.entries(settings)
    assert.equal(report.coverage.limits[name], most)
    assert.equal((await scanner.scan(within(), { name: 'a.zip' })).verdict.status, 'clean')
    assert.equal((await loose.scan(beyond(), { name: 'a.zip' })).verdict.status, 'clean')
    await scanner.close()
    await loose.close()
  })
}

test('maxScanTime: a scan that takes longer is unscannable, and not clean', async () => {
  const scanner = await Scanner.open({ definitions, limits: { maxScanTime: 1 } })
  const heavy = zip(Object.fromEntries(Array.from({ length: 400 }, (_, n) => [`${n}.bin`, filler(50_000, n + 1)])))
  const report = await scanner.scan(heavy, { name: 'a.zip' })
  assert.equal(report.verdict.status, 'unscannable')
  assert.ok(report.verdict.reasons.some(({ kind }) => kind === 'timed_out'), JSON.stringify(report.verdict))
  assert.equal(report.coverage.limits.maxScanTimeMs, 1)
  await scanner.close()
})

test('a threat within a limit is found although something else is beyond it', async () => {
  const scanner = await Scanner.open({ definitions, limits: { maxFileSize: 10_000 } })
  const report = await scanner.scan(zip({ 'eicar.com': eicar, 'large.bin': text(20_000) }), { name: 'a.zip' })
  assert.equal(report.verdict.status, 'infected')
  assert.ok(report.reasons.some(({ kind }) => kind === 'too_large'), JSON.stringify(report.reasons))
  await scanner.close()
})

test('limits bound what a scanner takes in', async () => {
  const scanner = await Scanner.open({ definitions, limits: { maxFileSize: 10_000 } })
  await assert.rejects(scanner.scan(text(10_001)), { code: 'too_large' })
  assert.equal((await scanner.scan(text(10_000))).verdict.status, 'clean')
  await scanner.close()
})

/** A workbook with a sheet of macros (Excel 4) in an OLE2 container. */
function workbook({ macros }) {
  const record = (kind, body) => Buffer.concat([Buffer.from([kind & 255, kind >> 8, body.length & 255, body.length >> 8]), body])
  const bof = (type) => record(0x809, Buffer.from([0, 6, type, 0, 0xbb, 0x0d, 0xcc, 7, 0, 0, 0, 0, 6, 0, 0, 0]))
  const sheet = record(0x85, Buffer.from([0, 1, 0, 0, 0, macros ? 1 : 0, 6, 0, ...Buffer.from('Sheet1')]))
  const stream = Buffer.alloc(4096)
  Buffer.concat([bof(5), sheet, record(0x0a, Buffer.alloc(0)), bof(macros ? 0x40 : 0x10), record(0x0a, Buffer.alloc(0))]).copy(stream)
  const header = Buffer.alloc(512, 255)
  header.fill(0, 0, 76)
  header.write('d0cf11e0a1b11ae1', 'hex')
  for (const [at, value] of [[24, 0x3e], [26, 3], [28, 0xfffe], [30, 9], [32, 6]]) header.writeUInt16LE(value, at)
  for (const [at, value] of [[44, 1], [48, 1], [56, 4096], [60, -2], [68, -2], [76, 0]]) header.writeInt32LE(value, at)
  const fat = Buffer.alloc(512, 255)
  ;[-3, -2, 3, 4, 5, 6, 7, 8, 9, -2].forEach((next, at) => fat.writeInt32LE(next, at * 4))
  const entry = (name, type, child, start, size) => {
    const out = Buffer.alloc(128)
    out.write(name, 'utf16le')
    out.writeUInt16LE(name === '' ? 0 : name.length * 2 + 2, 64)
    out.set([type, 1], 66)
    ;[-1, -1, child].forEach((id, at) => out.writeInt32LE(id, 68 + at * 4))
    out.writeInt32LE(start, 116)
    out.writeInt32LE(size, 120)
    return out
  }
  return Buffer.concat([header, fat, entry('Root Entry', 5, 1, -2, 0), entry('Workbook', 2, -1, 2, stream.length), entry('', 0, -1, 0, 0), entry('', 0, -1, 0, 0), stream])
}

test('alertMacros: macros are a threat where they are asked for, and only then', async () => {
  for (const [alertMacros, macros, status] of [[true, true, 'infected'], [true, false, 'clean'], [false, true, 'clean']]) {
    const scanner = await Scanner.open({ definitions, alertMacros })
    const report = await scanner.scan(workbook({ macros }), { name: 'a.xls' })
    assert.equal(report.verdict.status, status, `alertMacros ${alertMacros}, macros ${macros}`)
    if (status === 'infected') assert.deepEqual(report.threats, [{ signature: 'Heuristics.OLE2.ContainsMacros.XLM', layerPath: 'a.xls' }])
    await scanner.close()
  }
})
