// The ends of things by `using` and `await using`, compiled by TypeScript and run: what a user's code does with them.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { Pipeline, Scanner } from 'scan-pipeline'
import { definitions, folder, here, samples } from './support.mjs'

const root = join(here, '..')
const dir = folder()
let scanner
before(async () => { scanner = await Scanner.open({ definitions }) })
after(() => scanner.close())

const free = async () => (await scanner.health()).memory.budgetFreeBytes

test('Symbol.dispose of an upload and of a content gives it up', async () => {
  const all = await free()
  for (const disposable of [(upload) => upload, (upload) => upload.content]) {
    const upload = await scanner.scanUpload(samples.clean.bytes)
    const { content } = upload
    assert.ok(await free() < all)
    disposable(upload)[Symbol.dispose]()
    assert.equal(await free(), all)
    await assert.rejects(content.bytes(), { code: 'closed' })
    await assert.rejects(content.saveTo(join(dir, 'never')), { code: 'closed' })
    disposable(upload)[Symbol.dispose]()
  }
})

test('Symbol.asyncDispose of a pipeline closes it, and leaves its scanner', async () => {
  const pipeline = await new Pipeline({ scanner, buckets: { any: 'memory://any' }, store: `sqlite://${join(dir, 'a.db')}` }).open()
  await pipeline[Symbol.asyncDispose]()
  await pipeline[Symbol.asyncDispose]()
  await assert.rejects(pipeline.processUpload(samples.clean.bytes), { code: 'closed' })
  assert.equal((await scanner.scan(samples.clean.bytes)).verdict.status, 'clean')
})

test('blocks with using and await using end what they have', async () => {
  writeFileSync(join(dir, 'blocks.mts'), `
    import { Pipeline, Scanner, type Upload } from 'scan-pipeline'
    export async function blocks(definitions: string, store: string, bytes: Uint8Array): Promise<{ scanner: Scanner; pipeline: Pipeline; upload: Upload; size: number; free: number[] }> {
      let leaked: { scanner: Scanner; pipeline: Pipeline; upload: Upload } | undefined
      let size = 0
      const free: number[] = []
      {
        await using scanner = await Scanner.open({ definitions, spool: { memory: '99MB' } })
        const now = async () => { free.push((await scanner.health()).memory.budgetFreeBytes) }
        await using pipeline = await new Pipeline({ scanner, store, buckets: { any: 'memory://any' } }).open()
        await now()
        {
          using upload = await pipeline.processUpload(bytes)
          using content = upload.content
          size = (await content.bytes()).length
          leaked = { scanner, pipeline, upload }
          await now()
        }
        await now()
      }
      return { ...leaked, size, free }
    }`)
  mkdirSync(join(dir, 'node_modules', '@types'), { recursive: true })
  symlinkSync(root, join(dir, 'node_modules', 'scan-pipeline'))
  symlinkSync(join(root, 'node_modules', '@types', 'node'), join(dir, 'node_modules', '@types', 'node'))
  const options = ['--target', 'es2022', '--lib', 'es2024,esnext.disposable', '--module', 'nodenext', '--strict', '--types', 'node']
  execFileSync(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), ...options, 'blocks.mts'], { cwd: dir, stdio: ['ignore', 'inherit', 'inherit'] })
  // One copy of the package, the one under test.
  const { blocks } = await import(pathToFileURL(join(dir, 'blocks.mjs')).href)
  const { scanner: closed, pipeline, upload, size, free: [first, within, last] } = await blocks(definitions, `sqlite://${join(dir, 'b.db')}`, samples.clean.bytes)
  assert.equal(size, samples.clean.bytes.length)
  assert.ok(within < first)
  assert.equal(last, first)
  await assert.rejects(closed.scan(samples.clean.bytes), { code: 'closed' })
  await assert.rejects(pipeline.process({ bucket: 'a', key: 'b' }), { code: 'closed' })
  await assert.rejects(upload.content.bytes(), { code: 'closed' })
})
