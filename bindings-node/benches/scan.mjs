// What a scan from Node costs over the Rust call that it stands on, in processor time a file; and what npm's package
// `clamscan` costs, which asks a clamd over its socket.
//
//   cargo run --release -p scan-pipeline-benches --bin side-by-side -- --quick   # makes definitions and files, too
//   cargo build --release -p scan-pipeline-node --example call
//   cd bindings-node && npm run build -- --release
//   node benches/scan.mjs [--rounds 10] [--every 4] [--threads 1] [--profile debug] [--clamd SOCKET,PID]
//
// The two sides are two processes with the same definitions, and take turns in the order A-B-B-A. `--clamd` needs
// `npm install clamscan` somewhere above, and a clamd with the same definitions; its own processor time is counted, too.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Scanner } from 'scan-pipeline'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target')
const { values } = parseArgs({ options: {
  rounds: { type: 'string', default: '10' }, every: { type: 'string', default: '4' }, threads: { type: 'string', default: '1' }, clamd: { type: 'string' },
  profile: { type: 'string', default: 'release' },
} })
const [rounds, every, threads] = [values.rounds, values.every, values.threads].map(Number)
const definitions = join(target, 'bench-definitions')
const files = join(target, 'bench-files')

const paths = readdirSync(files, { recursive: true }).map((name) => join(files, name)).filter((path) => statSync(path).isFile() && !path.startsWith(join(files, 'ar')) && !path.endsWith('complete.txt')).sort().filter((_, at) => at % every === 0)
const contents = paths.map((path) => readFileSync(path))

/** Every file once, as many at a time as there are threads. */
async function each(scan) {
  let next = 0
  const take = async () => {
    for (let at = next++; at < contents.length; at = next++) await scan(contents[at])
  }
  await Promise.all(Array.from({ length: threads }, take))
}

const cpu = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e3
}

async function measured(scan) {
  const before = cpu()
  await each(scan)
  return cpu() - before
}

const scanner = await Scanner.open({ definitions, threads })
const scanBytes = async (bytes) => {
  if ((await scanner.scan(bytes, { name: 'a.bin' })).verdict.status !== 'clean') throw new Error('a file of the benches is not clean')
}
const scanStream = async (bytes) => {
  if ((await scanner.scan(Readable.from([bytes]), { name: 'a.bin' })).verdict.status !== 'clean') throw new Error('a file of the benches is not clean')
}

const rust = spawn(join(target, values.profile, 'examples', 'call'), [definitions, String(threads), ...paths], { stdio: ['pipe', 'pipe', 'inherit'] })
const lines = createInterface(rust.stdout)[Symbol.asyncIterator]()
await lines.next()
const sides = {
  'the Rust call': async () => {
    rust.stdin.write('round\n')
    return Number((await lines.next()).value)
  },
  'scan(Buffer)': () => measured(scanBytes),
  'scan(Readable)': () => measured(scanStream),
}

if (values.clamd !== undefined) {
  const [socket, pid] = values.clamd.split(',')
  const NodeClam = createRequire(import.meta.url)('clamscan')
  const clam = await new NodeClam().init({ clamdscan: { socket, localFallback: false }, preference: 'clamdscan' })
  // 14 and 15 of /proc/PID/stat, in hundredths of a second.
  const daemon = () => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13).reduce((sum, ticks) => sum + Number(ticks) * 10, 0)
  sides['clamscan, its clamd included'] = async () => {
    const before = daemon()
    const own = await measured(async (bytes) => {
      if ((await clam.scanStream(Readable.from([bytes]))).isInfected !== false) throw new Error('a file of the benches is not clean')
    })
    return own + daemon() - before
  }
}

const names = Object.keys(sides)
for (const name of names) await sides[name]() // Once to warm up.
const times = Object.fromEntries(names.map((name) => [name, []]))
for (let round = 0; round < rounds; round++) {
  for (const name of round % 2 === 0 ? names : [...names].reverse()) times[name].push(await sides[name]() / contents.length)
}
rust.stdin.end()
await once(rust, 'close')
await scanner.close()

const middle = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]
console.log(`${contents.length} files, ${rounds} rounds, ${threads} at a time; processor time a file`)
for (const name of names) {
  const ratios = times[name].map((time, at) => time / times['the Rust call'][at])
  const least = Math.min(...times[name]) / Math.min(...times['the Rust call'])
  console.log(`${name.padEnd(30)} ${middle(times[name]).toFixed(2)} ms, ratio ${middle(ratios).toFixed(3)} (${Math.min(...ratios).toFixed(3)}..${Math.max(...ratios).toFixed(3)}), of the cheapest ${least.toFixed(3)}`)
}
