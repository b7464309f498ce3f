// What a user installs, in a folder outside of the checkout: the first example of the cookbook, as it stands there.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { definitions, filler, folder, here, samples } from './support.mjs'

const root = join(here, '..')
const dir = folder()
const npm = (...args) => execFileSync('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error'], { cwd: dir, encoding: 'utf8' })

before(() => {
  execFileSync('npm', ['pack', '--silent', '--pack-destination', dir], { cwd: root })
  const [archive] = readdirSync(dir).filter((name) => name.endsWith('.tgz'))
  writeFileSync(join(dir, 'package.json'), '{"name": "user", "private": true, "type": "module"}')
  // The package needs no other, so nothing is fetched.
  npm('install', '--offline', `./${archive}`)
  for (const name of ['express', 'multer']) symlinkSync(join(root, 'node_modules', name), join(dir, 'node_modules', name))
})

test('the package holds what it needs and nothing else', () => {
  const files = readdirSync(join(dir, 'node_modules', 'scan-pipeline')).sort()
  assert.deepEqual(files.filter((name) => !name.endsWith('.node')), ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'dist', 'native.d.ts', 'package.json'])
  assert.equal(files.filter((name) => name.endsWith('.node')).length, 1)
})

test('the first example of the cookbook works as it stands there', async () => {
  const [, example] = /```js\n([^]*?)```/.exec(readFileSync(join(root, 'README.md'), 'utf8'))
  writeFileSync(join(dir, 'app.mjs'), example)
  const app = spawn(process.execPath, ['app.mjs'], { cwd: dir, env: { ...process.env, DEFINITIONS: definitions, PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const [line] = await once(app.stdout.setEncoding('utf8'), 'data')
    const url = `${line.trim()}/upload`
    for (const [{ name, bytes }, status] of [[samples.clean, 200], [samples.infected, 422], [samples.encrypted, 422], [{ name: 'much', bytes: filler(26 << 20) }, 413]]) {
      const form = new FormData()
      form.append('file', new File([bytes], name))
      const response = await fetch(url, { method: 'POST', body: form })
      const body = await response.json()
      assert.equal(response.status, status, `${name}: ${JSON.stringify(body)}`)
      if (status === 200) assert.equal(body.size, bytes.length)
    }
  } finally {
    app.kill()
    await once(app, 'close')
  }
})

test('it can be required, too', () => {
  const out = execFileSync(process.execPath, ['--input-type=commonjs', '-e', "console.log(typeof require('scan-pipeline').Scanner.open)"], { cwd: dir, encoding: 'utf8' })
  assert.equal(out, 'function\n')
})

test('without libclamav there is one sentence about what to install', () => {
  // The addon with another name of the library in it, which nobody has.
  const broken = join(dir, 'node_modules', 'scan-pipeline')
  const [addon] = readdirSync(broken).filter((name) => name.endsWith('.node'))
  const bytes = readFileSync(join(broken, addon))
  let found = 0
  for (let at = bytes.indexOf('libclamav.so.'); at >= 0; at = bytes.indexOf('libclamav.so.', at + 1)) {
    found++
    bytes.write('libclamav.so.?', at)
  }
  assert.ok(found > 0)
  const elsewhere = join(dir, 'elsewhere', 'node_modules', 'scan-pipeline')
  mkdirSync(elsewhere, { recursive: true })
  execFileSync('cp', ['-r', `${broken}/dist`, `${broken}/package.json`, elsewhere])
  writeFileSync(join(elsewhere, addon), bytes)
  const script = `try { require('scan-pipeline') } catch ({ code, message }) { console.log(JSON.stringify({ code, message })) }`
  const told = JSON.parse(execFileSync(process.execPath, ['--input-type=commonjs', '-e', script], { cwd: join(dir, 'elsewhere'), encoding: 'utf8' }))
  assert.equal(told.code, 'unsupported')
  for (const words of ['apt install libclamav12', 'dnf install', 'apk add', 'brew install']) assert.ok(told.message.includes(words), told.message)
  assert.ok(!told.message.includes('\n'))
})
