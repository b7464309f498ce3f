// A reporter for node's test runner: what failed, whole, and how many there were.
import { inspect } from 'node:util'

export default async function* reporter(source) {
  const counts = { passed: 0, failed: 0, skipped: 0 }
  for await (const { type, data } of source) {
    if (type === 'test:stderr' || type === 'test:stdout') yield data.message
    if (type !== 'test:pass' && type !== 'test:fail') continue
    // A suite is the sum of its tests.
    if (data.details?.type === 'suite') continue
    if (data.skip !== undefined || data.todo !== undefined) counts.skipped++
    else if (type === 'test:pass') counts.passed++
    else {
      counts.failed++
      yield `FAILED: ${data.name} (${data.file}:${data.line})\n${inspect(data.details.error?.cause ?? data.details.error)}\n`
    }
  }
  yield `node: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} ignored\n`
}
