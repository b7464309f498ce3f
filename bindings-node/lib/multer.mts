export * from './multer.js'
