// node cache_tests.mjs CHECKOUT RESULTS: reads what the suite's client printed, by the suite's own
// rule, and prints a JSON line for each test: its kind, its id, what came of it, and why.
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const [checkout, file] = process.argv.slice(2)
const load = path => import(pathToFileURL(`${checkout}/${path}`))
const { determineTestResult, resultTypes } = await load('test-engine/lib/results.mjs')
const { default: suites } = await load('tests/index.mjs')
const results = JSON.parse(readFileSync(file, 'utf8'))
for (const { tests } of suites) {
  for (const { id, kind = 'required' } of tests) {
    const result = determineTestResult(suites, id, results)
    const outcome = Object.keys(resultTypes).find(name => resultTypes[name] === result)
    const why = String(results[id]?.[1] ?? '')
    console.log(JSON.stringify({ kind, id, outcome, why }))
  }
}
