import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { addonName } from './addon'
import { ScanPipelineError } from './errors'
import type * as Native from '../native'

const INSTALL =
  'install it with `apt install libclamav12` on Debian and Ubuntu, `dnf install clamav-lib` on Fedora, ' +
  '`apk add clamav-libs` on Alpine, or `brew install clamav` on macOS'

function load(): typeof Native {
  const file = join(__dirname, '..', addonName())
  if (!existsSync(file)) {
    throw new ScanPipelineError('unsupported', `scan-pipeline has no addon for ${addonName().split('.')[1]}: build the ` +
      'package from its sources on such a machine (make npm-pack)')
  }
  try {
    return require(file)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    if (!/libclamav/.test(why)) throw error
    throw new ScanPipelineError('unsupported', `libclamav 1.4 or later is needed and not installed: ${INSTALL}.`, { cause: error })
  }
}

export const addon: typeof Native = load()
