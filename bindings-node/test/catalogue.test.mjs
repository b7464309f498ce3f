// Every fixture of the catalogue through the binding: the report has to be, field by field, what clamav-core says.
import assert from 'node:assert/strict'
import { createReadStream, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { Scanner } from 'scan-pipeline'
import { definitions, fixtures as catalogue } from './support.mjs'

const { all: fixtures, dir: folder } = catalogue()
const MAY = {
  clean: ['clean'], infected: ['infected'], never_clean: ['infected', 'unscannable'], odd: ['clean', 'unscannable'],
  rewritten: ['infected', 'clean'], unreadable: ['clean', 'unscannable'],
}

let scanner
before(async () => { scanner = await Scanner.open({ definitions }) })
after(() => scanner.close())

/**
 * libclamav unpacks the parts of a mail into a folder and takes them up in the order in which the file system lists
 * their random names: the number of a part without a name differs from scan to scan.
 */
const numberless = (name, form) => name.endsWith('.eml') ? JSON.parse(JSON.stringify(form).replace(/\/#\d+/g, '/#')) : form

/** What differs from scan to scan, and what clamav-core does not know, is left out. */
function comparable(report) {
  const json = structuredClone(report.toJSON())
  assert.equal(typeof json.elapsed_ms, 'number')
  assert.match(json.engine.settings, /^[0-9a-f]{32}$/)
  delete json.elapsed_ms
  const { name, library, generation, functionality_level, signatures } = json.engine
  return { ...json, engine: { name, library, generation, functionality_level, signatures } }
}

const kebab = (text) => text.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase())

/** The camelCase objects say the same as the JSON. */
function holds(report, expected) {
  const { verdict, coverage } = expected
  const reason = ({ kind, layer_path, detail }) => ({ kind, layerPath: layer_path, detail })
  assert.equal(report.verdict.status, verdict.status)
  if (verdict.status === 'infected') {
    assert.deepEqual(report.verdict.threats, verdict.threats.map(({ signature, layer_path }) => ({ signature, layerPath: layer_path })))
  }
  if (verdict.status === 'unscannable') assert.deepEqual(report.verdict.reasons, verdict.reasons.map(reason))
  assert.deepEqual(report.coverage.gaps, verdict.reasons.map(reason))
  for (const [key, value] of Object.entries(coverage)) {
    if (key === 'limits') for (const [limit, most] of Object.entries(value)) assert.equal(report.coverage.limits[kebab(limit)], most, limit)
    else assert.equal(report.coverage[kebab(key)], value, key)
  }
  assert.equal(report.sha256, expected.sha256)
  assert.equal(report.size, expected.size)
  assert.equal(report.fileType, expected.file_type)
}

test('the catalogue is there', () => assert.ok(fixtures.length > 200, String(fixtures.length)))

for (const { name, truth, beyond_default_limits, report: expected } of fixtures) {
  test(name, async () => {
    const path = join(folder, name)
    const bytes = readFileSync(path)
    const sources = { bytes, path: { path }, stream: createReadStream(path, { highWaterMark: 5_000 }) }
    if (beyond_default_limits) delete sources.stream
    for (const [kind, source] of Object.entries(sources)) {
      const report = await scanner.scan(source, { name })
      assert.ok(MAY[truth].includes(report.verdict.status), `${kind}: ${truth} is called ${report.verdict.status}`)
      assert.deepEqual(numberless(name, comparable(report)), numberless(name, expected), kind)
      holds(report, name.endsWith('.eml') ? comparable(report) : expected)
    }
  })
}
