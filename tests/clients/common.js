// What the scripts for Node share.
'use strict'
const path = require('path')

/** A package that `make test-clients` has installed. */
exports.load = name => require(path.join(__dirname, '../../.cache/clients/node/node_modules', name))
exports.port = Number(process.argv[2])

/** Runs `round(number)` until standard input ends; a line per round. */
exports.loop = async (round, end) => {
  let ended = false
  process.stdin.on('end', () => { ended = true }).resume()
  try {
    for (let number = 1; !ended; number++) {
      await round(number)
      console.log('round')
    }
    await end()
  } catch (error) {
    console.error(error)
    process.exit(1)
  }
}

/** The numbers below `count`. */
exports.range = count => Array.from({ length: count }, (_, at) => at)
