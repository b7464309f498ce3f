// What has to become of objects, from the table that the tests of both bindings share: exact keys, pins, and places.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { call, moveTo, Pipeline, Scanner, workflow } from 'scan-pipeline'
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
  // Once, between a scan and the first action, something happens.
  let happens
  const between = (what) => { happens = what }
  const meanwhile = async () => {
    const what = happens
    happens = undefined
    what?.()
  }
  const moves = made('moves.db')
    .on('clean', workflow('release').then(call('meanwhile', meanwhile), moveTo('clean', { tags: true })))
    .on('infected', workflow('isolate').then(call('meanwhile', meanwhile), moveTo('infected')))
  const looks = made('looks.db')
  const at = (bucket, key) => join(dir, bucket, key)
  const put = (key, bytes) => {
    mkdirSync(dirname(at('incoming', key)), { recursive: true })
    writeFileSync(at('incoming', key), bytes)
  }
  try {
    await body({ at, put, between, moves: await moves.open(), looks: await looks.open() })
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
  test(name.replaceAll('_', ' '), () => place(async ({ at, put, moves, looks, between }) => {
    assert.equal(tags, 0)
    const key = 'folder/object.bin'
    const other = () => (then === null ? rmSync(at('incoming', key)) : put(key, content(then)))
    put(key, content(first))
    const { task: { object: { etag } } } = await looks.process({ bucket: 'incoming', key })
    if (meanwhile === 'before_the_scan') other()
    if (meanwhile === 'before_the_move') between(other)
    // The state that was meant is passed over when it is not there any more, and the one that is there goes its own way.
    const ended = await moves.process({ bucket: 'incoming', key, etag })
    assert.deepEqual([ended.task.state, ended.superseded], [state, then === null ? 0 : 1])
    const last = content(then ?? first)
    if (end !== null) assert.equal(ended.task.report.sha256, createHash('sha256').update(last).digest('hex'))
    for (const bucket of ['incoming', 'clean', 'infected']) assert.equal(existsSync(at(bucket, key)), bucket === end, bucket)
    if (end !== null) assert.deepEqual(readFileSync(at(end, key)), last)
  }))
}
