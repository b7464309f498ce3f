// Streams of other copies of `stream`, such as npm's readable-stream 3 has, which many packages use.
import assert from 'node:assert/strict'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import foreign from 'readable-stream3'
import { Scanner } from 'scan-pipeline'
import { definitions, eicar, filler, samples } from './support.mjs'

let scanner
before(async () => { scanner = await Scanner.open({ definitions, spool: { stallTimeout: '1s' } }) })
after(() => scanner.close())

const half = filler(1000)
const refused = { code: 'invalid_input', message: /readable-stream.*new Readable\(\)\.wrap\(stream\)/ }

/** A stream whose first half is harmless and whose second is not. */
function made() {
  const stream = new foreign.PassThrough()
  stream.write(half)
  return stream
}

test('the streams of these tests are none of node\'s own', () => {
  assert.ok(!(made() instanceof Readable))
  assert.equal(made().readableDidRead, undefined)
})

test('one that was destroyed in the middle is not called clean on its first half', async () => {
  const early = made()
  early.destroy()
  await assert.rejects(scanner.scan(early), refused)
  const late = made()
  setImmediate(() => late.destroy())
  await assert.rejects(scanner.scan(late), refused)
})

test('one that somebody has consumed is not called clean, and empty', async () => {
  const stream = made()
  stream.end(eicar)
  for await (const _ of stream);
  await assert.rejects(scanner.scan(stream), refused)
})

test('one that somebody has read from is not called clean on its rest', async () => {
  const stream = made()
  stream.read(10)
  stream.end()
  await assert.rejects(scanner.scan(stream), refused)
})

test('one that is whole is refused, too, and scanned when it is wrapped', async () => {
  const bare = made()
  bare.end(eicar)
  await assert.rejects(scanner.scan(bare), refused)
  for (const { bytes, status } of Object.values(samples)) {
    const stream = new foreign.PassThrough()
    stream.end(bytes)
    const report = await scanner.scan(new Readable().wrap(stream))
    assert.equal(report.verdict.status, status)
    assert.equal(report.size, bytes.length)
  }
})

test('a wrapped one that is destroyed in the middle, or was before, is no content', async () => {
  const late = made()
  const wrapped = new Readable().wrap(late)
  setImmediate(() => late.destroy())
  await assert.rejects(scanner.scan(wrapped), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
  const early = made()
  early.destroy()
  await new Promise((resolve) => early.once('close', resolve))
  // Nobody tells the wrapper anything more.
  await assert.rejects(scanner.scan(new Readable().wrap(early)), { code: 'timeout' })
})

test('an iterator that says it is done does not make a stream whole', async () => {
  const stream = new Readable({ read() {} })
  stream.push(half)
  stream[Symbol.asyncIterator] = async function* () { yield half }
  await assert.rejects(scanner.scan(stream), { code: 'truncated' })
})
