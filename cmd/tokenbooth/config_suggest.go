package main

import (
	"fmt"
	"strings"
)

// didYouMean follows an unknown word: " (did you mean …?)", or nothing when no
// candidate is near.
func didYouMean(word string, candidates []string) string {
	best, distance := "", max(2, len(word)/4)+1
	for _, candidate := range candidates {
		d := editDistance(word, candidate)
		if strings.HasSuffix(candidate, "."+word) {
			d = 1 // the right name in the wrong section
		}
		if d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// editDistance is Levenshtein's: how many bytes to insert, delete or replace to
// turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
