// Only `textContent` is written: the name of a file is a stranger's text.
const form = document.querySelector('form')
const button = form.querySelector('button')
const answer = document.querySelector('#answer')

const WHY = {
  encrypted: 'it is encrypted, and nobody can look into it. Upload it without a password.',
  too_large: 'it holds something that is too large.',
  too_deep: 'it holds archives in archives in archives.',
  too_many_files: 'it holds too many files.',
  truncated_or_corrupt: 'it is damaged, or not complete.',
  unsupported: 'it is packed in a way that cannot be unpacked here.',
}

function words({ status, name, size, threats = [], reasons = [] }) {
  switch (status) {
    case 'clean': return `${name} is clean and was taken (${size.toLocaleString('en')} bytes).`
    case 'infected': return `This file is infected and was not taken: ${threats.join(', ')}.`
    case 'unscannable': return `This file was not taken: ${WHY[reasons[0]] ?? 'parts of it cannot be scanned.'}`
    case 'too_large': return 'This file was not taken: it is larger than 25 MB.'
    case 'missing': return 'Choose a file first.'
    default: return 'The file could not be scanned, so it was not taken. Try again in a while.'
  }
}

function show(said) {
  answer.dataset.status = said.status
  answer.textContent = words(said)
}

form.addEventListener('submit', async (event) => {
  event.preventDefault()
  button.disabled = true
  answer.dataset.status = 'scanning'
  answer.textContent = 'Scanning…'
  try {
    const response = await fetch('/upload', { method: 'POST', body: new FormData(form) })
    show(await response.json())
  } catch {
    show({ status: 'failed' })
  } finally {
    button.disabled = false
  }
})
