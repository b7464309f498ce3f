// The one implementation, so that an error is an instance of the same class for whoever imports and whoever requires.
export * from './index.js'
