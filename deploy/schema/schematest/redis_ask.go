package schematest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// redisTimeout bounds one command of the helpers here.
const redisTimeout = time.Second

// askRedis sends one command on a connection of its own. It knows the answers that are one string or
// number, which is all that the helpers ask for; one that starts with "-" is an error.
func askRedis(address string, command ...string) (string, error) {
	conn, err := net.DialTimeout("tcp", address, redisTimeout)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(redisTimeout)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, redisCommand(command)); err != nil {
		return "", err
	}
	return redisAnswer(bufio.NewReader(conn))
}

func redisCommand(words []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
	}
	return b.String()
}

func redisAnswer(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", errors.New("an empty answer")
	}
	switch kind, rest := line[0], line[1:]; kind {
	case '+', ':':
		return rest, nil
	case '-':
		return "", errors.New(rest)
	case '$':
		return redisBulk(r, rest)
	default:
		return "", fmt.Errorf("an answer of another kind: %q", line)
	}
}

func redisBulk(r *bufio.Reader, size string) (string, error) {
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 {
		return "", fmt.Errorf("an answer of %s bytes", size)
	}
	text := make([]byte, n)
	_, err = io.ReadFull(r, text)
	return string(text), err
}
