// What a user installs, in a folder outside of the checkout: the first example of the cookbook, as it stands there.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
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
  // What the example needs comes from the registry, or from npm's cache of it, as a user gets it.
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  npm('install', '--prefer-offline', ...['express', 'multer', 'typescript', '@types/node'].map((name) => `${name}@${packages[`node_modules/${name}`].version}`))
})

test('the package holds what it needs and nothing else', () => {
  const files = readdirSync(join(dir, 'node_modules', 'scan-pipeline')).sort()
  assert.deepEqual(files.filter((name) => !name.endsWith('.node')), ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'dist', 'native.d.ts', 'package.json'])
  assert.equal(files.filter((name) => name.endsWith('.node')).length, 1)
})

test('its types need no other package\'s, and hold with skipLibCheck: false', () => {
  for (const absent of ['@types/express', '@types/multer', '@nestjs/common']) assert.throws(() => lstatSync(join(dir, 'node_modules', absent)))
  const options = { target: 'es2022', lib: ['es2023'], module: 'nodenext', strict: true, exactOptionalPropertyTypes: true, noEmit: true, skipLibCheck: false, types: ['node'] }
  writeFileSync(join(dir, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['user.mts', 'user.cts'] }))
  writeFileSync(join(dir, 'user.mts'), `
    import { onLog, Pipeline, Scanner, type LogRecord } from 'scan-pipeline'
    import { scanPart } from 'scan-pipeline/fastify'
    import { scanStorage, type ScannedFile } from 'scan-pipeline/multer'
    import { scanWeb } from 'scan-pipeline/web'
    const scanner = await Scanner.open()
    const stop: () => void = onLog((record: LogRecord) => console.log(record.level))
    const size: (file: ScannedFile) => number = (file) => file.content.size
    export default [scanStorage(scanner), scanPart, scanWeb, Pipeline, stop, size]`)
  writeFileSync(join(dir, 'user.cts'), "import sp = require('scan-pipeline')\nexport const open: () => Promise<sp.Scanner> = () => sp.Scanner.open()")
  execFileSync(process.execPath, [join(dir, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', dir], { stdio: ['ignore', 'inherit', 'inherit'] })
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
    const form = new FormData()
    form.append('note', 'no file')
    assert.equal((await fetch(url, { method: 'POST', body: form })).status, 400)
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
