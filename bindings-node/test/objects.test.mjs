// What has to become of objects, from the table that the tests of both bindings share: exact keys, pins, and places.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { moveTo, Pipeline, Scanner, workflow } from 'scan-pipeline'
import { definitions, fixtures, folder } from './support.mjs'

const { dir: catalogue } = fixtures()
const { keys, behaviours } = JSON.parse(readFileSync(join(catalogue, 'objects.json')))
const content = (name) => readFileSync(join(catalogue, name))
let scanner
before(async () => { scanner = await Scanner.open({ definitions }) })
after(() => scanner.close())

/** Folders as buckets, a pipeline that moves what comes, and one that only looks. */
async function place(body) {
  const dir = folder()
  const names = ['incoming', 'clean', 'infected']
  for (const name of names) mkdirSync(join(dir, name))
  const buckets = Object.fromEntries(names.map((name) => [name, `file://${join(dir, name)}`]))
  const made = (store) => new Pipeline({ scanner, store: `sqlite://${join(dir, store)}`, limits: { settle: 0 }, buckets })
  const moves = made('moves.db').on('clean', workflow('release').then(moveTo('clean', { tags: true }))).on('infected', workflow('isolate').then(moveTo('infected')))
  const looks = made('looks.db')
  const at = (bucket, key) => join(dir, bucket, key)
  const put = (key, bytes) => {
    mkdirSync(dirname(at('incoming', key)), { recursive: true })
    writeFileSync(at('incoming', key), bytes)
  }
  try {
    await body({ at, put, moves: await moves.open(), looks: await looks.open() })
  } finally {
    await moves.close()
    await looks.close()
  }
}

for (const { key, twin, refused_by_paths: refused } of keys) {
  test(`the key ${JSON.stringify(key)} is itself, and not ${JSON.stringify(twin)}`, () => place(async ({ at, put, moves }) => {
    const other = Buffer.from('the twin')
    put(twin, other)
    const object = { bucket: 'incoming', key }
    if (refused) {
      await assert.rejects(moves.process(object), ({ code }) => ['gone', 'invalid_input'].includes(code))
    } else {
      const bytes = Buffer.from('all is well')
      put(key, bytes)
      const { task } = await moves.process(object)
      assert.deepEqual([task.object.key, task.state, task.place.object?.key], [key, 'done', key])
      assert.deepEqual(readFileSync(at('clean', key)), bytes)
      assert.ok(!existsSync(at('incoming', key)))
    }
    assert.deepEqual(readFileSync(at('incoming', twin)), other)
    assert.ok(!existsSync(at('clean', twin)))
  }))
}

// JavaScript has no door to the tags that somebody else gave an object; those are the library's own tests.
for (const { name, content: first, meanwhile, then, tags, state, place: end } of behaviours.filter(({ tags }) => tags === 0)) {
  test(name.replaceAll('_', ' '), () => place(async ({ at, put, moves, looks }) => {
    assert.equal(tags, 0)
    const key = 'folder/object.bin'
    put(key, content(first))
    const { task: { object: { etag } } } = await looks.process({ bucket: 'incoming', key })
    if (meanwhile === 'overwritten') put(key, content(then))
    if (meanwhile === 'deleted') rmSync(at('incoming', key))
    const pinned = { bucket: 'incoming', key, etag }
    const ended = await moves.process(pinned).catch((error) => error)
    if (state === 'superseded') {
      // The state that the event told of is passed over, and the one that is there goes its own way.
      assert.equal(ended.superseded, 1)
      const { verdict, sha256 } = ended.task.report
      assert.equal(sha256, createHash('sha256').update(content(then)).digest('hex'))
      assert.deepEqual(readFileSync(at(verdict.status, key)), content(then))
      for (const bucket of ['incoming', 'clean', 'infected']) assert.equal(existsSync(at(bucket, key)), bucket === verdict.status, bucket)
      return
    }
    assert.equal(ended.task?.state ?? ended.code, state)
    for (const bucket of ['incoming', 'clean', 'infected']) assert.equal(existsSync(at(bucket, key)), bucket === end, bucket)
    if (end !== null) assert.deepEqual(readFileSync(at(end, key)), content(first))
  }))
}
