export { Scanner } from './scanner'
export type { Health, LimitSettings, PatternSettings, ScannerSettings, Size, SpoolSettings, Time } from './scanner'
export type { ScanOptions, ScanProgress } from './call'
export type { Source } from './source'
export { Report } from './report'
export type {
  Coverage, DatabaseInfo, EngineInfo, Finding, Limits, Reason, ReasonKind, ReportJson, Status, Threat, Verdict,
} from './report'
export { Content, Upload } from './upload'
export { InfectedError, ScanPipelineError, UnscannableError } from './errors'
export type { ErrorCode } from './errors'
export { onLog } from './log'
export type { LogLevel, LogRecord } from './log'
export { Pipeline, ProcessedUpload } from './pipeline'
export type {
  BucketSettings, PipelineSettings, Processed, Progress, StepRecord, Task, UploadOptions, Wanted,
} from './pipeline'
export { call, deleteObject, email, moveTo, notify, record, tag, Workflow, workflow } from './workflow'
export type { Handler, Json, ObjectRef, Scanned, Step, StepContext, StepOptions } from './workflow'
