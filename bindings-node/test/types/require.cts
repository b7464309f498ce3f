// The same package for whoever requires it.
import sp = require('scan-pipeline')
import multer = require('scan-pipeline/multer')

async function main(): Promise<void> {
  const scanner: sp.Scanner = await sp.Scanner.open()
  const report: sp.Report = await scanner.scan({ path: '/a' })
  const error: sp.ScanPipelineError = new sp.InfectedError(report)
  multer.scanStorage(scanner, { buffer: false })
  // @ts-expect-error There is no such option.
  multer.scanStorage(scanner, { bufer: false })
  void error
}
void main
