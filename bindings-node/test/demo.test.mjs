// The upload page in a real browser: what a user sees of a clean, an infected and an encrypted file.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { chromium } from 'playwright-core'
import { filler, here, samples } from './support.mjs'

const executablePath = process.env.CHROMIUM ?? ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync)
let server
let browser
let page
let url

before(async () => {
  assert.ok(executablePath, 'there is no Chromium: scripts/setup.sh test installs it, or CHROMIUM names one')
  server = spawn(process.execPath, [join(here, '..', 'demo', 'server.mjs')], { env: { ...process.env, PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = await once(server.stdout.setEncoding('utf8'), 'data')
  url = line.trim()
  // Its sandbox wants privileges that containers and root do not have; the page is ours.
  browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] })
  page = await browser.newPage()
  page.on('dialog', (dialog) => assert.fail(`a dialog: ${dialog.message()}`))
})

after(async () => {
  await browser?.close()
  server?.kill()
})

async function upload(name, buffer) {
  await page.goto(url)
  await page.setInputFiles('#file', { name, mimeType: 'application/octet-stream', buffer })
  await page.click('button')
  await page.waitForSelector('#answer:not([data-status=scanning])[data-status]')
  return { status: await page.getAttribute('#answer', 'data-status'), words: await page.textContent('#answer') }
}

test('a clean file was taken', async () => {
  const { status, words } = await upload(samples.clean.name, samples.clean.bytes)
  assert.equal(status, 'clean')
  assert.match(words, new RegExp(`^letter\\.txt is clean and was taken \\(${samples.clean.bytes.length} bytes\\)\\.$`))
})

test('an infected file was not, and the user sees what was found', async () => {
  const { status, words } = await upload(samples.infected.name, samples.infected.bytes)
  assert.equal(status, 'infected')
  assert.match(words, /^This file is infected and was not taken: Eicar-Test-Signature/)
})

test('an encrypted file was not, and the user sees what to do', async () => {
  const { status, words } = await upload(samples.encrypted.name, samples.encrypted.bytes)
  assert.equal(status, 'unscannable')
  assert.match(words, /was not taken: it is encrypted.*without a password/)
})

test('a file that is too large was not', async () => {
  const { status, words } = await upload('much.bin', filler(26 << 20))
  assert.equal(status, 'too_large')
  assert.match(words, /larger than 25 MB/)
})

test('the name of a file is text, whatever is in it', async () => {
  const { status, words } = await upload('<img src=x onerror=alert(1)>.txt', samples.clean.bytes)
  assert.equal(status, 'clean')
  assert.match(words, /^<img src=x onerror=alert\(1\)>\.txt is clean/)
  assert.equal(await page.locator('#answer img').count(), 0)
})
