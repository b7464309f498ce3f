// What the tests share. EICAR is put together here, so that no file of the repository is found by a virus scanner.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { deflateRawSync } from 'node:zlib'
import { after } from 'node:test'

export const here = dirname(fileURLToPath(import.meta.url))
export const definitions = join(here, '..', '..', 'scan-pipeline', 'definitions')
export const eicar = Buffer.from(['X5O!P%@AP[4\\PZX54(P^)7CC)7}$', 'EICAR-STANDARD-', 'ANTIVIRUS-TEST-', 'FILE!', '$H+H*'].join(''))

/** A folder that is gone when the tests of the file are over. */
export function folder() {
  const made = mkdtempSync(join(tmpdir(), 'scan-pipeline-test-'))
  after(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** The catalogue's fixtures with what clamav-core says of each, and the folder that they are in. */
export function fixtures() {
  const dir = process.env.SCAN_PIPELINE_FIXTURES ?? join(here, '..', '..', 'target', 'fixtures')
  const table = join(dir, 'expectations.json')
  assert.ok(existsSync(table), `there are no fixtures in ${dir}: scripts/node.sh makes them`)
  return { all: JSON.parse(readFileSync(table)).fixtures, dir }
}

/** Bytes that look like nothing and are the same every time. */
export function filler(length, seed = 1) {
  const bytes = Buffer.allocUnsafe(length)
  let state = seed >>> 0 || 1
  for (let at = 0; at < length; at++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[at] = state & 255
  }
  return bytes
}

const crcTable = Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1
  return n >>> 0
})
const crc32 = (bytes) => (bytes.reduce((crc, byte) => crcTable[(crc ^ byte) & 255] ^ (crc >>> 8), 0xffffffff) ^ 0xffffffff) >>> 0

/** A zip archive of these members; one whose flag for encryption is set cannot be read by anybody. */
export function zip(members, { encrypted = false } = {}) {
  const flags = encrypted ? 1 : 0
  const locals = []
  const central = []
  let at = 0
  for (const [name, bytes] of Object.entries(members)) {
    const packed = encrypted ? filler(bytes.length + 12, 7) : deflateRawSync(bytes)
    const header = Buffer.alloc(26)
    header.writeUInt16LE(20, 0)
    header.writeUInt16LE(flags, 2)
    header.writeUInt16LE(encrypted ? 0 : 8, 4)
    header.writeUInt32LE(crc32(bytes), 10)
    header.writeUInt32LE(packed.length, 14)
    header.writeUInt32LE(bytes.length, 18)
    header.writeUInt16LE(name.length, 22)
    locals.push(Buffer.from('PK\x03\x04', 'latin1'), header, Buffer.from(name), packed)
    const entry = Buffer.alloc(42)
    entry.writeUInt16LE(20, 0)
    header.copy(entry, 2, 0, 24)
    entry.writeUInt32LE(at, 38)
    central.push(Buffer.from('PK\x01\x02', 'latin1'), entry, Buffer.from(name))
    at += 30 + name.length + packed.length
  }
  const directory = Buffer.concat(central)
  const end = Buffer.alloc(18)
  end.writeUInt16LE(Object.keys(members).length, 4)
  end.writeUInt16LE(Object.keys(members).length, 6)
  end.writeUInt32LE(directory.length, 8)
  end.writeUInt32LE(at, 12)
  return Buffer.concat([...locals, directory, Buffer.from('PK\x05\x06', 'latin1'), end])
}

/** The samples that every door is tried with. */
export const samples = {
  clean: { name: 'letter.txt', bytes: Buffer.from('Dear Sir or Madam, ' + 'all is well. '.repeat(40)), status: 'clean' },
  infected: { name: 'holiday.zip', bytes: zip({ 'inner.zip': zip({ 'eicar.com': eicar }) }), status: 'infected' },
  encrypted: { name: 'salaries.zip', bytes: zip({ 'salaries.csv': Buffer.from('name;salary\n'.repeat(20)) }, { encrypted: true }), status: 'unscannable' },
}

/** Runs node with a script, and gives how it ended. */
export async function run(script, { args = [], env = {}, cwd = here, timeout = 120_000 } = {}) {
  const child = spawn(process.execPath, [...args, '--input-type=module', '-e', script], { cwd, env: { ...process.env, ...env }, timeout })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text) => { stdout += text })
  child.stderr.setEncoding('utf8').on('data', (text) => { stderr += text })
  const [code, signal] = await once(child, 'close')
  return { code, signal, stdout, stderr }
}
