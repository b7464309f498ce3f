// What a scan from Node costs over the Rust call that it stands on, in processor time a file; and what npm's package
// `clamscan` costs, which asks a clamd over its socket.
//
//   cargo run --release -p scan-pipeline-benches --bin side-by-side -- --quick   # makes definitions and files, too
//   scripts/node.sh bench [--rounds 10] [--every 4] [--threads 1] [--at-most 3]
//
// The addon is one with the feature `bench`, which gives it the class `Files`: the Rust call, in this process and on the
// scanner's engine. What two processes, or two engines, take for the same scans differs by more than the 3% that are asked
// for. "the Rust call, again" is the same side a second time, and shows what the noise alone does.
//
// The sides take turns after every four files (see `order`), and a round over all files is one observation. `--at-most` is
// how many percent a Buffer's scan may cost over the Rust call, by the median of the rounds: above it the exit code is 1. The
// clamd beside them, whose processor time is counted, is started here, with the same definitions and limits; where there is
// none its line says NOT MEASURED.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const target = resolve(process.env.CARGO_TARGET_DIR ?? join(root, 'target'))
const { values } = parseArgs({ options: {
  rounds: { type: 'string', default: '10' }, every: { type: 'string', default: '4' }, threads: { type: 'string', default: '1' },
  'at-most': { type: 'string' },
} })
const [rounds, every, threads, most] = [values.rounds, values.every, values.threads, values['at-most'] ?? 'Infinity'].map(Number)
const definitions = join(target, 'bench-definitions')
const files = join(target, 'bench-files')
// Where scripts/node.sh puts the package with the feature `bench`, apart from the one that tests and users take.
const built = createRequire(join(target, 'node', 'bench', 'dist', 'index.js'))
const { Scanner } = built('./index.js')
const { addon } = built('./native.js')

const paths = readdirSync(files, { recursive: true }).map((name) => join(files, name)).filter((path) => statSync(path).isFile() && !path.startsWith(join(files, 'ar')) && !path.endsWith('complete.txt')).sort().filter((_, at) => at % every === 0)
const contents = paths.map((path) => readFileSync(path))

/** Files of one turn. */
const turn = 4
/**
 * Milliseconds until the clock is read: what a thread did is counted in full once it waits again, and those of the runtime
 * and of the engine have something to put away after the answer.
 */
const settle = 2

/** Each of these files once, as many at a time as there are threads. */
async function each(scan, from, to) {
  let next = from
  const take = async () => {
    for (let at = next++; at < to; at = next++) await scan(contents[at])
  }
  await Promise.all(Array.from({ length: threads }, take))
}

const cpu = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e3
}

/**
 * Who comes when: there and back, A-B-B-A, so that a host that gets faster or slower does so for all; and by turns of twice as
 * many as there are sides each comes equally often at each place, and behind each other, whose data it finds in the
 * processor's cache.
 */
function order(number, sides) {
  const there = Array.from({ length: sides }, (_, at) => (at % 2 === 1 ? (at + 1) / 2 : sides - at / 2))
  const shifted = there.map((side) => (side + (number >> 1)) % sides)
  return number % 2 === 0 ? shifted : shifted.reverse()
}

const scanner = await Scanner.open({ definitions, threads })
const scanBytes = async (bytes) => {
  if ((await scanner.scan(bytes, { name: 'a.bin' })).verdict.status !== 'clean') throw new Error('a file of the benches is not clean')
}
const scanStream = (bytes) => scanBytes(Readable.from([bytes]))
const inRust = new addon.Files(contents)
const rust = async (from, to) => inRust.scan(scanner.native, from, to, threads)
/** What scans the files from one number to the one before another; and the clock, where it is not that of this process. */
const sides = {
  'the Rust call': { scan: rust },
  'scan(Buffer)': { scan: (from, to) => each(scanBytes, from, to) },
  'scan(Readable)': { scan: (from, to) => each(scanStream, from, to) },
  'the Rust call, again': { scan: rust },
}

async function measured({ scan, clock = cpu }, from, to) {
  const before = clock()
  await scan(from, to)
  await sleep(settle)
  return clock() - before
}

/** A clamd of our own, with the settings that benches/src/bin/peers.rs gives it. */
async function startClamd(program) {
  const folder = mkdtempSync(join(tmpdir(), 'scan-pipeline-bench-'))
  const [socket, config] = [join(folder, 'clamd.sock'), join(folder, 'clamd.conf')]
  const { limits } = (await scanner.scan(Buffer.from('what are the limits'))).coverage
  const settings = {
    LocalSocket: socket, DatabaseDirectory: realpathSync(definitions), TemporaryDirectory: folder, Foreground: 'yes',
    ConcurrentDatabaseReload: 'no', DisableCache: 'yes', MaxThreads: threads, LogFile: join(folder, 'clamd.log'),
    MaxScanSize: limits.maxScanSize, MaxRecursion: limits.maxRecursion, MaxFiles: limits.maxFiles, MaxScanTime: limits.maxScanTimeMs,
    AlertExceedsMax: 'yes', AlertEncrypted: 'yes',
  }
  for (const key of ['StreamMaxLength', 'MaxFileSize', 'MaxEmbeddedPE', 'MaxHTMLNormalize', 'MaxHTMLNoTags', 'MaxScriptNormalize', 'PCREMaxFileSize']) {
    settings[key] = limits.maxFileSize
  }
  writeFileSync(config, Object.entries(settings).map(([key, value]) => `${key} ${value}\n`).join(''))
  const daemon = spawn(program, ['--config-file', config], { stdio: ['ignore', 'ignore', 'inherit'] })
  const ended = once(daemon, 'close')
  const stop = async () => {
    daemon.kill()
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
  while (!existsSync(socket)) {
    if (daemon.exitCode !== null) throw new Error(`clamd ended with ${daemon.exitCode}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return { socket, pid: daemon.pid, stop }
}

// The last is where scripts/servers.sh unpacks it.
const folders = ['/usr/sbin', ...(process.env.PATH ?? '').split(delimiter), join(target, 'servers', 'clamd', 'usr', 'sbin')]
const program = folders.map((folder) => join(folder, 'clamd')).find(existsSync)
const clamd = program === undefined ? undefined : await startClamd(program)
if (clamd !== undefined) {
  const NodeClam = createRequire(import.meta.url)('clamscan')
  const clam = await new NodeClam().init({ clamdscan: { socket: clamd.socket, localFallback: false }, preference: 'clamdscan' })
  // 14 and 15 of /proc/PID/stat, in hundredths of a second.
  const daemon = () => readFileSync(`/proc/${clamd.pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13).reduce((sum, ticks) => sum + Number(ticks) * 10, 0)
  const asked = async (bytes) => {
    if ((await clam.scanStream(Readable.from([bytes]))).isInfected !== false) throw new Error('a file of the benches is not clean')
  }
  sides['clamscan, its clamd included'] = { scan: (from, to) => each(asked, from, to), clock: () => cpu() + daemon() }
}

const names = Object.keys(sides)
for (const name of names) await measured(sides[name], 0, contents.length) // Once to warm up.
const times = Object.fromEntries(names.map((name) => [name, []]))
for (let round = 0; round < rounds; round++) {
  for (const name of names) times[name].push(0)
  for (let from = 0; from < contents.length; from += turn) {
    const to = Math.min(from + turn, contents.length)
    for (const at of order(round + from / turn, names.length)) {
      times[names[at]][round] += await measured(sides[names[at]], from, to) / contents.length
    }
  }
}
await scanner.close()
await clamd?.stop()

function middle(values) {
  const sorted = values.toSorted((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
}
console.log(`${contents.length} files, ${rounds} rounds, ${threads} at a time; processor time a file`)
for (const name of names) {
  const ratios = times[name].map((time, at) => time / times['the Rust call'][at])
  const least = Math.min(...times[name]) / Math.min(...times['the Rust call'])
  console.log(`${name.padEnd(30)} ${middle(times[name]).toFixed(2)} ms, ratio ${middle(ratios).toFixed(3)} (${Math.min(...ratios).toFixed(3)}..${Math.max(...ratios).toFixed(3)}), of the cheapest ${least.toFixed(3)}`)
}
if (clamd === undefined) console.log('clamscan: NOT MEASURED, because there is no clamd (apt install clamav-daemon)')
const ratio = middle(times['scan(Buffer)'].map((time, at) => time / times['the Rust call'][at]))
if (!((ratio - 1) * 100 <= most)) {
  console.log(`scan(Buffer) costs ${((ratio - 1) * 100).toFixed(1)}% more than the Rust call, which is more than ${most}%`)
  process.exitCode = 1
}
